"""The log of finished requests: what one caller writes cannot keep it from being written, and its end loses nothing."""

import asyncio
from dataclasses import replace
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, select

from auterity_dagster.embedded.secrets import ensure_secrets
from auterity_dagster.errors import NotFound
from auterity_dagster.relaycore.ports import RequestRecord
from auterity_dagster.relaycore.request_record import refused_record
from auterity_dagster.serving.relaycore.request_log import RequestWriter
from auterity_dagster.storage.database import BlockingDatabase, Database
from auterity_dagster.storage.tables.routing import RequestRow
from tests.fakes.gateway_stack import new_organization
from tests.fakes.past_decisions import request


@pytest.fixture
def organization_id(blocking_database: BlockingDatabase, tmp_path: Path) -> UUID:
    ensure_secrets(tmp_path)
    organization_id, _ = new_organization(blocking_database, tmp_path)
    return organization_id


def refused(organization_id: UUID, *, model: str = "auto") -> RequestRecord:
    error = NotFound("There is no such model.", code="model_not_found")
    asked = request(uuid4().int)
    caller = replace(asked.caller, organization_id=organization_id, dealership_id=None)
    return refused_record(replace(asked, caller=caller, model=model), None, error, took_s=0.1)


async def models(database: Database, organization_id: UUID) -> list[str]:
    async with database.begin(organization_id) as session:
        return list(await session.scalars(select(RequestRow.model).order_by(RequestRow.model)))


async def test_a_text_that_postgresql_cannot_store_keeps_nobody_elses_record_away(
    database: Database, organization_id: UUID
) -> None:
    writer = RequestWriter(database)
    for model in ("a\0b", "auto"):
        writer.add(refused(organization_id, model=model))

    await writer.flush()

    assert await models(database, organization_id) == ["auto", "a\ufffdb"]


async def test_a_record_that_was_written_already_is_written_once_and_stops_no_other(
    database: Database, organization_id: UUID
) -> None:
    writer, record = RequestWriter(database), refused(organization_id)
    writer.add(record)
    await writer.flush()

    writer.add(record)
    writer.add(refused(organization_id))
    await writer.flush()

    assert len(await models(database, organization_id)) == 2


async def test_what_a_cancelled_flush_had_taken_waits_for_the_next(database: Database, organization_id: UUID) -> None:
    writer = RequestWriter(database)
    for _ in range(50):
        writer.add(refused(organization_id))
    flush = asyncio.create_task(writer.flush())
    await asyncio.sleep(0)

    flush.cancel()
    await asyncio.gather(flush, return_exceptions=True)
    await writer.flush()

    async with database.begin(organization_id) as session:
        assert await session.scalar(select(func.count()).select_from(RequestRow)) == 50
