"""The command of each server, the same under `auterity up` and `auterity serve`."""

import sys
from pathlib import Path

from auterity_dagster.embedded.ports import LOOPBACK

APPS = {
    "api": "auterity_dagster.serving.api.app:create_app",
    "models": "auterity_dagster.serving.model_server.app:create_app",
    "sandbox": "auterity_dagster.serving.sandbox.app:create_app",
}
DEFINITIONS = "auterity_dagster.definitions"
GATEWAY = "auterity_dagster.serving.relaycore.process"
DRAIN_S = 10


def app_command(app: str, *, host: str, port: int) -> tuple[str, ...]:
    """A web application of ours; on SIGTERM it finishes what it answers for at most `DRAIN_S` (the gateway: longer)."""
    if app == "gateway":
        return (sys.executable, "-m", GATEWAY, "--host", host, "--port", str(port))
    options = ("--host", host, "--port", str(port), "--no-access-log", "--no-server-header")
    drain = ("--timeout-graceful-shutdown", str(DRAIN_S))
    return (sys.executable, "-m", "uvicorn", "--factory", APPS[app], *options, *drain)


def mlflow_command(*, host: str, port: int, artifacts: Path) -> tuple[str, ...]:
    """MLflow's server; its database's address is in the environment, for every user sees a command line."""
    return (
        *(sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port)),
        *("--workers", "1", "--artifacts-destination", str(artifacts)),
    )


def code_server_command(location: str, *, port: int) -> tuple[str, ...]:
    """Dagster's server for one code location; run workers are its children."""
    return (
        *(sys.executable, "-m", "dagster", "api", "grpc", "--host", LOOPBACK, "--port", str(port)),
        *("--module-name", DEFINITIONS, "--attribute", location, "--location-name", location),
    )


def dagster_webserver_command(*, port: int, workspace: Path) -> tuple[str, ...]:
    """Dagster's web interface."""
    options = ("--host", LOOPBACK, "--port", str(port), "--workspace", str(workspace))
    return (sys.executable, "-m", "dagster_webserver", *options)


def dagster_daemon_command(*, workspace: Path) -> tuple[str, ...]:
    """Dagster's daemons: schedules, sensors, the run queue, monitoring."""
    return (sys.executable, "-m", "dagster._daemon", "run", "--workspace", str(workspace))
