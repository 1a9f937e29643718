"""AutoMatrix for Dagster: the engine with its adapters, composed when a run or a tick begins."""

import random
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
from pydantic import PrivateAttr

from auterity_dagster.automatrix.actions.registry import actions
from auterity_dagster.automatrix.engine import Engine
from auterity_dagster.automatrix.expression import CelEngine
from auterity_dagster.automatrix.ports import ChatModel, Journal, Messenger
from auterity_dagster.clock import SystemClock
from auterity_dagster.identity.secret_file import read_pepper
from auterity_dagster.prompt import load_prompts
from auterity_dagster.resources.gateway_chat import GatewayChat
from auterity_dagster.resources.sandbox_messenger import SandboxMessenger
from auterity_dagster.storage.database import BlockingDatabase
from auterity_dagster.storage.repositories.contacts import PostgresContacts
from auterity_dagster.storage.repositories.inventory import PostgresInventory
from auterity_dagster.storage.repositories.journal import PostgresJournal

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
                contacts=PostgresContacts(self._database),
                inventory=PostgresInventory(self._database),
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

    def messenger(self) -> Messenger:
        """The sandbox: it records and never sends."""
        return SandboxMessenger(Path(self.data_dir) / "messenger", SystemClock())


def automatrix_from_environment(config_dir: Path) -> AutomatrixResource:
    """Return the resource with addresses that are read at run time, so that no page of Dagster shows a password."""
    return AutomatrixResource(
        database_url=dg.EnvVar("AUTERITY_DATABASE_URL"),
        gateway_url=dg.EnvVar("AUTERITY_GATEWAY_URL"),
        secrets_dir=dg.EnvVar("AUTERITY_SECRETS_DIR"),
        data_dir=dg.EnvVar("AUTERITY_DATA_DIR"),
        config_dir=str(config_dir),
    )
