"""The loopback ports of one `up` and the addresses they make."""

from dataclasses import dataclass, fields

from auterity_dagster.embedded.ports import LOOPBACK, PortNeed, free_port, require_free


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """The ports that people and clients know."""

    gateway: int = 8400
    api: int = 8401
    model_server: int = 8402
    sandbox: int = 8403
    mlflow: int = 5000
    dagster: int = 3000

    def require_free(self) -> None:
        """Raise `ConfigurationInvalid` that names each taken port, who needs it, and the option that changes it."""
        require_free(
            tuple(PortNeed(service=name, port=int(getattr(self, name)), option=_option(name)) for name in port_names())
        )

    def options(self) -> list[str]:
        """The options of `auterity up` that say these ports."""
        return [part for name in port_names() for part in (_option(name), str(getattr(self, name)))]

    def urls(self) -> "Urls":
        """The addresses on these ports."""
        return Urls(**{name: f"http://{LOOPBACK}:{getattr(self, name)}" for name in port_names()})


@dataclass(frozen=True, slots=True, kw_only=True)
class Urls:
    """Where each part answers."""

    gateway: str
    api: str
    model_server: str
    sandbox: str
    mlflow: str
    dagster: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InnerPorts:
    """Ports that only our own processes know; picked anew at each start."""

    postgres: int
    valkey: int
    workflows: int
    models: int


def port_names() -> tuple[str, ...]:
    """The parts that have a port of their own, in the order in which people read about them."""
    return tuple(field.name for field in fields(Ports))


def choose_free(fixed: dict[str, int]) -> Ports:
    """Ports that are free now, but for those the caller wants."""
    return Ports(**dict(zip(port_names(), distinct_free_ports(len(port_names())), strict=True)) | fixed)


def inner_ports() -> InnerPorts:
    """Ports that are free now."""
    postgres, valkey, workflows, models = distinct_free_ports(4)
    return InnerPorts(postgres=postgres, valkey=valkey, workflows=workflows, models=models)


def distinct_free_ports(count: int) -> list[int]:
    """So many different free ports."""
    ports: set[int] = set()
    while len(ports) < count:
        ports.add(free_port())
    return list(ports)


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}-port"
