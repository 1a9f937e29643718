"""The real gateway on a broken ledger: which one, the variable `AUTERITY_CONTROL` names. For negative controls only."""

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from auterity_dagster.relaycore.ports import Ledger
from auterity_dagster.serving.relaycore.app import build_app
from auterity_dagster.settings import GatewaySettings
from auterity_dagster.storage.database import Database
from auterity_dagster.storage.repositories.ledger import open_ledger
from tests.chaos.negative_controls import CheckThenInsertLedger, OnlyWhatTheCallerGotLedger


def create_app() -> FastAPI:
    return build_app(GatewaySettings(), opened=CONTROLS[os.environ["AUTERITY_CONTROL"]])  # pyright: ignore


@asynccontextmanager
async def check_then_insert(url: str) -> AsyncGenerator[Ledger]:
    database = Database(url, pool_size=20)
    async with open_ledger(url) as ledger:
        yield CheckThenInsertLedger(ledger, database)
    await database.close()


@asynccontextmanager
async def only_what_the_caller_got(url: str) -> AsyncGenerator[Ledger]:
    async with open_ledger(url) as ledger:
        yield OnlyWhatTheCallerGotLedger(ledger)


CONTROLS = {"check_then_insert": check_then_insert, "only_what_the_caller_got": only_what_the_caller_got}
