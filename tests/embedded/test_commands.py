import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from typer.testing import CliRunner, Result

from auterity_dagster.cli import app
from auterity_dagster.embedded.databases import plain_url
from auterity_dagster.embedded.environment import project_root
from auterity_dagster.embedded.ports import free_port
from auterity_dagster.embedded.secrets import ensure_secrets

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the command over a data folder of its own, with the given variables beside no others of ours."""
    for name in [name for name in os.environ if name.startswith("AUTERITY_")]:
        monkeypatch.delenv(name)

    def invoke(*arguments: str, text: str = "", **variables: str) -> Result:
        environment = {"AUTERITY_DATA_DIR": str(tmp_path / "var")} | variables
        return CliRunner().invoke(app, arguments, env=environment, input=text)

    return invoke


@pytest.fixture
def config_dir(tmp_path: Path) -> Path:
    return Path(shutil.copytree(project_root() / "config", tmp_path / "config"))


def one_message(result: Result) -> str:
    """What a failed command said; fails unless it is one message and no traceback."""
    lines = result.output.splitlines()
    assert result.exit_code == 1
    assert len(lines) == 1, result.output
    return lines[0]


def test_up_names_a_taken_port_and_the_option_that_changes_it(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = server.getsockname()[1]

        said = one_message(run("up", "--free-ports", "--mlflow-port", str(taken)))

    assert f"port {taken} is taken" in said
    assert "mlflow needs it" in said
    assert "--mlflow-port" in said


def test_up_says_that_the_database_does_not_answer(run: Run) -> None:
    url = f"postgresql://owner:hidden@127.0.0.1:{free_port()}/auterity"

    said = one_message(run("up", "--free-ports", AUTERITY_DATABASE_URL=url))

    assert "cannot connect to PostgreSQL" in said
    assert "hidden" not in said


def test_up_says_that_an_address_is_none(run: Run) -> None:
    said = one_message(run("up", "--free-ports", AUTERITY_DATABASE_URL="somewhere"))

    assert "AUTERITY_DATABASE_URL is no address" in said


def test_up_says_that_the_redis_server_does_not_answer(run: Run) -> None:
    said = one_message(run("up", "--free-ports", AUTERITY_REDIS_URL=f"redis://127.0.0.1:{free_port()}/0"))

    assert "cannot reach the server in AUTERITY_REDIS_URL" in said


def test_up_says_which_configuration_file_is_missing(run: Run, config_dir: Path) -> None:
    (config_dir / "prices.yaml").unlink()

    assert "prices.yaml" in one_message(run("up", "--free-ports", AUTERITY_CONFIG_DIR=str(config_dir)))


def test_up_says_that_the_configuration_folder_is_missing(run: Run, tmp_path: Path) -> None:
    said = one_message(run("up", "--free-ports", AUTERITY_CONFIG_DIR=str(tmp_path / "nowhere")))

    assert "set AUTERITY_CONFIG_DIR" in said


def test_check_names_each_problem_on_a_line_of_its_own(run: Run, config_dir: Path) -> None:
    (config_dir / "prices.yaml").write_text("prices: [")
    (config_dir / "prompts" / "lead_reply.yaml").write_text("task: 7")
    url = f"redis://127.0.0.1:{free_port()}/0"

    result = run("check", AUTERITY_CONFIG_DIR=str(config_dir), AUTERITY_REDIS_URL=url)

    assert result.exit_code == 1
    lines = result.output.splitlines()
    for number, problem in enumerate(("prompts/lead_reply.yaml", "prices.yaml", "AUTERITY_REDIS_URL")):
        assert problem in lines[number]
    assert len(lines) == 3


def test_check_passes_what_is_shipped(run: Run) -> None:
    result = run("check")

    assert result.exit_code == 0, result.output


def test_status_says_how_to_start_what_does_not_run(run: Run) -> None:
    assert "start it with `auterity up`" in one_message(run("status"))


def test_down_is_content_when_nothing_runs(run: Run) -> None:
    result = run("down")

    assert result.exit_code == 0
    assert "nothing runs" in result.output


def test_serve_names_the_variables_that_are_missing(run: Run) -> None:
    said = one_message(run("serve", "gateway"))

    assert "AUTERITY_DATABASE_URL: Field required" in said


def test_an_organization_and_its_owner_are_created_with_a_password_from_standard_input(
    run: Run, database_urls: Any, tmp_path: Path
) -> None:
    ensure_secrets(tmp_path / "var" / "secrets")

    result = run(
        *("organizations", "create", "--name", "Harbor Auto", "--owner-email", "owner@harbor.example"),
        text="a long enough sentence of words\n",
        AUTERITY_DATABASE_URL=database_urls.application,
    )

    assert result.exit_code == 0, result.output
    organization_id = UUID(result.output.split()[1])
    with psycopg.connect(plain_url(database_urls.owner)) as connection:
        row = connection.execute("SELECT name FROM organization WHERE id = %s", (organization_id,)).fetchone()
    assert row == ("Harbor Auto",)


def test_an_owner_without_a_fit_password_is_refused_in_one_message(
    run: Run, database_urls: Any, tmp_path: Path
) -> None:
    ensure_secrets(tmp_path / "var" / "secrets")

    result = run(
        *("organizations", "create", "--name", "Harbor Auto", "--owner-email", "owner@harbor.example"),
        text="short\n",
        AUTERITY_DATABASE_URL=database_urls.application,
    )

    assert "password" in one_message(result).lower()
