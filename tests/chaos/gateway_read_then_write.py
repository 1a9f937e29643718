"""P-1's negative control over HTTP: the real gateway on a ledger that reads and then writes."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from auterity_dagster.relaycore.ports import Ledger
from auterity_dagster.serving.relaycore.app import build_app
from auterity_dagster.settings import GatewaySettings
from auterity_dagster.storage.database import Database
from tests.chaos.negative_controls import ReadThenWriteLedger


def create_app() -> FastAPI:
    return build_app(GatewaySettings(), opened=_opened)  # pyright: ignore[reportCallIssue]


@asynccontextmanager
async def _opened(url: str) -> AsyncGenerator[Ledger]:
    database = Database(url)
    yield ReadThenWriteLedger(database)
    await database.close()
