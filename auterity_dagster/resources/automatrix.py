"""AutoMatrix for Dagster: the engine with its adapters, composed when a run or a tick begins."""

import random
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
from pydantic import PrivateAttr

from auterity_dagster.automatrix.actions.registry import actions
from auterity_dagster.automatrix.compliance.rows import load_compliance
from auterity_dagster.automatrix.connection import Connections
from auterity_dagster.automatrix.engine import Engine
from auterity_dagster.automatrix.expression import CelEngine
from auterity_dagster.automatrix.ports import ChatModel, Journal, Messenger
from auterity_dagster.automatrix.unsubscribe import UnsubscribeLinks
from auterity_dagster.clock import SystemClock
from auterity_dagster.identity.secret_file import read_pepper
from auterity_dagster.prompt import load_prompts
from auterity_dagster.public_http import PublicHttp
from auterity_dagster.resources.connection_calls import ConnectionCalls
from auterity_dagster.resources.gateway_chat import GatewayChat
from auterity_dagster.resources.live_messenger import LiveMessenger
from auterity_dagster.resources.sandbox_messenger import SandboxMessenger
from auterity_dagster.settings import OutboundSettings, PublicSettings
from auterity_dagster.storage.database import BlockingDatabase
from auterity_dagster.storage.repositories.children import PostgresChildren
from auterity_dagster.storage.repositories.inventory import PostgresInventory
from auterity_dagster.storage.repositories.journal import PostgresJournal
from auterity_dagster.storage.repositories.recalls import PostgresRecalls

POOL_SIZE = 16


class AutomatrixResource(dg.ConfigurableResource):
    """The engine of the process that a run has to itself."""

    database_url: str
    gateway_url: str
    secrets_dir: str
    data_dir: str
    config_dir: str

    _database: BlockingDatabase = PrivateAttr()
    _engine: Engine = PrivateAttr()

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Generator["AutomatrixResource"]:
        """Open the connections of one run, and close them."""
        self._database = BlockingDatabase(self.database_url, pool_size=POOL_SIZE)
        try:
            self._engine = self.compose()
            yield self
        finally:
            self._database.close()

    @property
    def engine(self) -> Engine:
        """What the ops call."""
        return self._engine

    def compose(self) -> Engine:
        """Put the engine together."""
        return Engine(
            journal=self.journal(),
            actions=actions(
                chat=self.chat(),
                prompts=load_prompts(Path(self.config_dir) / "prompts"),
                messenger=self.messenger(),
                compliance=load_compliance(Path(self.config_dir) / "compliance.yaml"),
                unsubscribe=UnsubscribeLinks(PublicSettings().origin, self._pepper),
                inventory=PostgresInventory(self._database),
                children=PostgresChildren(self._database),
                connections=self.connections(),
                recalls=PostgresRecalls(self._database),
            ),
            clock=SystemClock(),
            pause=time.sleep,
            jitter=random.SystemRandom().random,
        )

    def journal(self) -> Journal:
        """The journal in PostgreSQL."""
        return PostgresJournal(self._database, CelEngine())

    def chat(self) -> ChatModel:
        """RelayCore."""
        return GatewayChat(self._database, gateway_url=self.gateway_url, pepper=read_pepper(Path(self.secrets_dir)))

    def connections(self) -> Connections:
        """The outside systems that organizations named."""
        return ConnectionCalls(self._database, self._http(), pepper=self._pepper)

    def messenger(self) -> Messenger:
        """What organizations made live; else the sandbox, which records and never sends."""
        sandbox = SandboxMessenger(Path(self.data_dir) / "messenger", SystemClock())
        return LiveMessenger(self._database, sandbox, self._http(), pepper=self._pepper, clock=SystemClock())

    def _http(self) -> PublicHttp:
        return PublicHttp(private_origins=OutboundSettings().private_origins)

    def _pepper(self) -> bytes:
        return read_pepper(Path(self.secrets_dir))


def automatrix_from_environment(config_dir: Path) -> AutomatrixResource:
    """Return the resource with addresses that are read at run time, so that no page of Dagster shows a password."""
    return AutomatrixResource(
        database_url=dg.EnvVar("AUTERITY_DATABASE_URL"),
        gateway_url=dg.EnvVar("AUTERITY_GATEWAY_URL"),
        secrets_dir=dg.EnvVar("AUTERITY_SECRETS_DIR"),
        data_dir=dg.EnvVar("AUTERITY_DATA_DIR"),
        config_dir=str(config_dir),
    )
