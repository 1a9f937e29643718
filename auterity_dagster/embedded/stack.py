"""Everything that `auterity up` runs: which servers, in which order, with which health checks."""

import asyncio
import signal
from dataclasses import dataclass, field
from pathlib import Path

from auterity_dagster.embedded import commands, probes
from auterity_dagster.embedded.addresses import InnerPorts, Ports
from auterity_dagster.embedded.data_folder import DataFolder
from auterity_dagster.embedded.databases import create_own_database, migrate_database, plain_url, prepare_guests
from auterity_dagster.embedded.environment import Environments, server_environment
from auterity_dagster.embedded.ports import LOOPBACK
from auterity_dagster.embedded.postgres import STOP_SIGNAL, PostgresCluster
from auterity_dagster.embedded.supervised_service import Service, Step
from auterity_dagster.embedded.unprivileged import server_identity
from auterity_dagster.embedded.valkey import valkey_command, valkey_configuration

GATEWAY_STOP_S = 75.0
"""Its calls have 30 s to finish, and then the ledger 30 s to be told."""

DAEMONS = ("SCHEDULER", "SENSOR", "QUEUED_RUN_COORDINATOR", "MONITORING")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """One `up`: what it was given and what it chose. `cluster` and `redis_password` are None for servers of others."""

    folder: DataFolder
    ports: Ports
    inner: InnerPorts
    environments: Environments
    cluster: PostgresCluster | None
    redis_password: str | None = field(repr=False)

    def services(self) -> tuple[Service, ...]:
        """All servers, in the order in which people read about them."""
        return (*self._storage(), *self._applications(), *self._mlflow(), *self._dagster())

    def steps(self) -> tuple[Step, ...]:
        """What is done between the database's start and everybody else's."""
        databases, secrets_dir = self.environments.databases, self.environments.secrets_dir

        async def prepare() -> None:
            if self.cluster is not None:
                await asyncio.to_thread(create_own_database, self.cluster.url(self.inner.postgres))
            await asyncio.to_thread(prepare_guests, databases, secrets_dir=secrets_dir)

        async def migrate() -> None:
            await asyncio.to_thread(migrate_database, databases, secrets_dir=secrets_dir)

        return (
            Step(name="databases", action=prepare, after=("postgres",) if self.cluster is not None else ()),
            Step(name="migrations", action=migrate, after=("databases",)),
        )

    def _storage(self) -> tuple[Service, ...]:
        services: list[Service] = []
        if self.cluster is not None:
            services.append(
                Service(
                    name="postgres",
                    command=tuple(self.cluster.command(self.inner.postgres, durable=True)),
                    environment=server_environment(),
                    probe=probes.postgres(self.cluster.url(self.inner.postgres)),
                    log=self._log("postgres"),
                    address=f"{LOOPBACK}:{self.inner.postgres}",
                    identity=self.cluster.identity,
                    stop_signal=STOP_SIGNAL,
                    stop_timeout_s=60.0,
                )
            )
        if self.redis_password is not None:
            services.append(
                Service(
                    name="valkey",
                    command=tuple(valkey_command()),
                    environment=server_environment(),
                    probe=probes.valkey(self.environments.redis_url),
                    log=self._log("valkey"),
                    address=f"{LOOPBACK}:{self.inner.valkey}",
                    standard_input=valkey_configuration(self.inner.valkey, self.redis_password),
                    identity=server_identity(),
                )
            )
        return tuple(services)

    def _applications(self) -> tuple[Service, ...]:
        urls, plain = self.environments.urls, self.environments.application()
        stored = ("migrations", *(("valkey",) if self.redis_password is not None else ()))
        chosen = (
            ("gateway", "gateway", self.ports.gateway, urls.gateway, self.environments.gateway(), stored),
            ("api", "api", self.ports.api, urls.api, plain, stored),
            ("model_server", "models", self.ports.model_server, urls.model_server, plain, ("migrations",)),
            ("sandbox", "sandbox", self.ports.sandbox, urls.sandbox, plain, ("migrations",)),
        )
        return tuple(
            Service(
                name=name,
                command=commands.app_command(app, host=LOOPBACK, port=port),
                environment=environment,
                probe=probes.http(f"{url}/healthz"),
                log=self._log(name),
                folder=self._working_folder(),
                after=after,
                address=url,
                stop_timeout_s=GATEWAY_STOP_S if name == "gateway" else 15.0,
            )
            for name, app, port, url, environment, after in chosen
        )

    def _mlflow(self) -> tuple[Service, ...]:
        url = self.environments.urls.mlflow
        artifacts = self.folder.root / "mlflow" / "artifacts"
        return (
            Service(
                name="mlflow",
                command=commands.mlflow_command(host=LOOPBACK, port=self.ports.mlflow, artifacts=artifacts),
                environment=self.environments.mlflow(),
                probe=probes.http(f"{url}/health"),
                log=self._log("mlflow"),
                folder=self._working_folder(),
                after=("databases",),
                address=url,
                signals_group=True,  # its command line starts the server as a child and does not pass signals on
            ),
        )

    def _dagster(self) -> tuple[Service, ...]:
        environment, url = self.environments.dagster(), self.environments.urls.dagster
        workspace = self.folder.root / "dagster" / "workspace.yaml"
        code_servers = tuple(
            Service(
                name=name,
                command=commands.code_server_command(name, port=port),
                environment=environment,
                probe=probes.code_server(port),
                log=self._log(name),
                folder=self._working_folder(),
                after=("migrations",),
                address=f"{LOOPBACK}:{port}",
                signals_group=True,  # or it would wait for its run workers
                spares_children=True,
            )
            for name, port in (("workflows", self.inner.workflows), ("models", self.inner.models))
        )
        webserver = Service(
            name="dagster",
            command=commands.dagster_webserver_command(port=self.ports.dagster, workspace=workspace),
            environment=environment,
            probe=probes.http(f"{url}/server_info"),
            log=self._log("dagster"),
            folder=self._working_folder(),
            after=("databases", "workflows", "models"),
            address=url,
            stop_signal=signal.SIGINT,
        )
        daemon = Service(
            name="dagster_daemon",
            command=commands.dagster_daemon_command(workspace=workspace),
            environment=environment,
            probe=probes.dagster_daemons(plain_url(self.environments.databases.dagster), required=DAEMONS),
            log=self._log("dagster_daemon"),
            folder=self._working_folder(),
            after=("dagster",),  # whoever comes first creates Dagster's tables: not two at once
            stop_signal=signal.SIGINT,
        )
        return (*code_servers, webserver, daemon)

    def _log(self, name: str) -> Path:
        return self.folder.logs / f"{name}.log"

    def _working_folder(self) -> Path:
        return self.folder.root / "run"
