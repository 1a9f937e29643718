"""The house rules that no linter knows: file sizes, names, the `mlflow` trap, where Dagster reads annotations."""

import ast
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "auterity_dagster"
LINE_LIMIT = 400
VAGUE_NAMES = {"util", "utils", "helper", "helpers", "common", "misc", "service", "services", "manager"}
READ_AT_RUN_TIME = ("assets", "jobs", "sensors", "resources", "serving")


def python_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.py") if ".venv" not in path.parts)


def too_long(files: list[Path]) -> list[str]:
    return [
        f"{path.name}: {count} lines" for path in files if (count := len(path.read_text().splitlines())) > LINE_LIMIT
    ]


def vaguely_named(files: list[Path]) -> list[str]:
    return [str(path) for path in files if path.stem in VAGUE_NAMES]


def hides_annotations(path: Path) -> bool:
    """True if Dagster or FastAPI could not read this module's annotations at run time."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "__future__":
            return True
        if isinstance(node, ast.ImportFrom) and any(name.name == "TYPE_CHECKING" for name in node.names):
            return True
    return False


def test_no_file_is_longer_than_the_limit() -> None:
    assert too_long(python_files(PACKAGE) + python_files(ROOT / "tests") + python_files(ROOT / "benchmarks")) == []


def test_files_are_named_after_what_they_hold() -> None:
    assert vaguely_named(python_files(PACKAGE)) == []


def test_package_markers_are_empty() -> None:
    assert [path for path in PACKAGE.rglob("__init__.py") if path.read_text()] == []


def test_tests_are_no_packages_and_shadow_no_library() -> None:
    assert list((ROOT / "tests").rglob("__init__.py")) == []
    assert not (ROOT / "tests" / "mlflow").exists()


def test_test_files_have_names_of_their_own() -> None:
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]

    assert sorted(names) == sorted(set(names))


def test_the_workspace_loads_modules_and_never_paths() -> None:
    workspace = (ROOT / "workspace.yaml").read_text()

    assert "python_module" in workspace
    assert "python_file" not in workspace


def test_pytest_does_not_put_the_package_folder_on_the_path() -> None:
    configuration = tomllib.loads((ROOT / "pyproject.toml").read_text())

    assert "pythonpath" not in configuration["tool"]["pytest"]["ini_options"]


@pytest.mark.parametrize("folder", READ_AT_RUN_TIME)
def test_frameworks_can_read_annotations_at_run_time(folder: str) -> None:
    assert [str(path) for path in python_files(PACKAGE / folder) if hides_annotations(path)] == []


def test_the_library_is_what_absolute_imports_of_mlflow_find() -> None:
    for path in python_files(PACKAGE):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert node.module != "auterity_dagster.mlflow", f"{path} imports the package itself"


def test_nothing_generated_is_committed() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert [path for path in tracked.splitlines() if path.startswith(("var/", ".venv/")) or path.endswith(".pyc")] == []


class TestTheCheckersCanFail:
    def test_a_long_file_is_found(self, tmp_path: Path) -> None:
        (tmp_path / "long.py").write_text("x = 1\n" * (LINE_LIMIT + 1))

        assert too_long(python_files(tmp_path)) == ["long.py: 401 lines"]

    def test_a_vague_name_is_found(self, tmp_path: Path) -> None:
        (tmp_path / "utils.py").touch()

        assert vaguely_named(python_files(tmp_path)) == [str(tmp_path / "utils.py")]

    @pytest.mark.parametrize("line", ["from __future__ import annotations", "from typing import TYPE_CHECKING"])
    def test_a_hidden_annotation_is_found(self, tmp_path: Path, line: str) -> None:
        (tmp_path / "asset.py").write_text(line)

        assert hides_annotations(tmp_path / "asset.py")
