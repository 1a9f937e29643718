"""What the supervisor runs: servers that stay up, and steps that are done once before others may start."""

import signal
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from auterity_dagster.embedded.unprivileged import Identity

Probe = Callable[[], Awaitable[bool]]
"""True when the server can do its work; it takes a few seconds at most and never raises."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A server: how it is started, known to be healthy, and stopped."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)
    probe: Probe
    log: Path
    folder: Path = Path("/")
    """Where it runs. No project folder: modules lying there could hide installed ones."""
    after: tuple[str, ...] = ()
    address: str | None = None
    standard_input: bytes | None = field(default=None, repr=False)
    identity: Identity | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    signals_group: bool = False
    """Tell its children to stop too: it would wait for them, or leave them behind."""
    spares_children: bool = False
    """Its children go on with their work when it dies and is started again (Dagster's run workers)."""
    start_timeout_s: float = 300.0
    stop_timeout_s: float = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Work that is done once at every start; raises an `AuterityError` when it cannot be."""

    name: str
    action: Callable[[], Awaitable[None]]
    after: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ServiceProcess:
    """One started process of a service, as others may find it again: a process id alone may be reused."""

    name: str
    pid: int
    created_at: float
    stop_signal: int


def stop_order(services: tuple[Service, ...], steps: tuple[Step, ...]) -> tuple[tuple[Service, ...], ...]:
    """Groups to stop one after the other: nobody is stopped before those that were started after it."""
    after = {item.name: item.after for item in (*services, *steps)}

    def depth(name: str) -> int:
        return 1 + max((depth(other) for other in after[name]), default=0)

    depths = {service.name: depth(service.name) for service in services}
    return tuple(
        tuple(service for service in services if depths[service.name] == level)
        for level in sorted(set(depths.values()), reverse=True)
    )
