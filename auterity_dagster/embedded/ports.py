"""Loopback ports: is one free, who has it, and which to take when any will do."""

import random
import socket
from dataclasses import dataclass

import psutil

from auterity_dagster.errors import ConfigurationInvalid

LOOPBACK = "127.0.0.1"
CANDIDATES = range(20_000, 32_000)
"""Below the range from which systems take the ports of outgoing connections: nobody is given one meanwhile."""


@dataclass(frozen=True, slots=True)
class PortNeed:
    """Who needs a port, and the option that changes it."""

    service: str
    port: int
    option: str


def free_port() -> int:
    """A loopback port that is free now; whoever binds it next may still be faster."""
    for _ in range(1000):
        port = random.choice(CANDIDATES)  # noqa: S311 (no secret: any free one will do)
        if is_free(port):
            return port
    raise ConfigurationInvalid(f"no free port between {CANDIDATES.start} and {CANDIDATES.stop} on {LOOPBACK}")


def is_free(port: int) -> bool:
    """True if a server could listen on this loopback port now."""
    with socket.socket() as probe:
        # As servers do: a connection that is still closing does not occupy the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def require_free(needs: tuple[PortNeed, ...]) -> None:
    """Raise `ConfigurationInvalid` that names every taken port, who needs it, who has it and how to change it."""
    asked: dict[int, str] = {}
    for need in needs:
        if need.port in asked:
            raise ConfigurationInvalid(
                f"port {need.port} is asked for twice, by {asked[need.port]} and {need.service}: change it with "
                f"{need.option}"
            )
        asked[need.port] = need.service
    taken = [need for need in needs if not is_free(need.port)]
    if taken:
        sentences = [
            f"port {need.port} is taken{_holder(need.port)} and {need.service} needs it: "
            f"choose another with {need.option}"
            for need in taken
        ]
        raise ConfigurationInvalid(f"{'; '.join(sentences)}; or let Auterity choose with --free-ports")


def _holder(port: int) -> str:
    try:
        connections = psutil.net_connections("tcp")
    except psutil.AccessDenied:
        return ""
    for connection in connections:
        address = connection.laddr
        if connection.status == psutil.CONN_LISTEN and address and address.port == port and connection.pid:
            try:
                return f" by process {connection.pid} ({psutil.Process(connection.pid).name()})"
            except psutil.NoSuchProcess:
                return ""
    return ""
