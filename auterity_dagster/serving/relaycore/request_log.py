"""Write finished requests down in batches, off the callers' path."""

import asyncio
from collections import defaultdict
from uuid import UUID

import orjson
import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from auterity_dagster.relaycore.ports import RequestRecord
from auterity_dagster.storage.database import Database
from auterity_dagster.storage.repositories.routing import add_requests

FLUSH_S = 0.25
LIMIT = 20_000

_log = structlog.get_logger(__name__)


class RequestWriter:
    """Keeps records for a quarter of a second and writes them together; while PostgreSQL is away it keeps 20,000."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: list[RequestRecord] = []

    def add(self, record: RequestRecord) -> None:
        if len(self._waiting) < LIMIT:
            self._waiting.append(record)
        else:
            _log.error("request_record_dropped", request=str(record.request.id))

    async def write_for_ever(self) -> None:
        """Write what waits, again and again."""
        while True:
            await asyncio.sleep(FLUSH_S)
            await self.flush()

    async def flush(self) -> None:
        """Write what waits now, one transaction an organization."""
        batch, self._waiting = self._waiting, []
        by_organization: dict[UUID, list[RequestRecord]] = defaultdict(list)
        for record in batch:
            by_organization[record.request.caller.organization_id].append(record)
        for organization_id, records in by_organization.items():
            try:
                async with self._database.begin(organization_id) as session:
                    await add_requests(session, orjson.dumps([_row(record) for record in records]).decode())
            except (DBAPIError, PoolTimeout) as error:
                _log.warning("requests_not_written", count=len(records), reason=type(error).__name__)
                self._waiting = (records + self._waiting)[:LIMIT]


def _row(record: RequestRecord) -> dict[str, object]:
    """The record as the columns of its row; orjson writes ids, times and frozen classes by itself."""
    request, route, usage = record.request, record.route, record.usage
    return {
        "organization_id": request.caller.organization_id,
        "day": record.received_at.date(),
        "id": request.id,
        "dealership_id": request.caller.dealership_id,
        "key_id": request.caller.key_id,
        "purpose": request.caller.purpose,
        "task": request.task,
        "model": request.model,
        "is_stream": request.is_stream,
        "policy_digest": record.policy_digest,
        "rule": route.rule if route else None,
        "decision": route.considered if route else (),
        "deployment_id": record.deployment_id,
        "artefact_digest": _artefact_digest(record),
        "attempts": record.attempts,
        "outcome": record.outcome,
        "prompt_tokens": usage.prompt_tokens if usage else None,
        "completion_tokens": usage.completion_tokens if usage else None,
        "cost_nusd": record.cost_nusd,
        "latency_ms": record.latency_ms,
        "received_at": record.received_at,
    }


def _artefact_digest(record: RequestRecord) -> str | None:
    """Which bytes answered: the deployment may serve others when a label arrives."""
    steps = record.route.steps if record.route else ()
    answered = (one.deployment for one in steps if one.deployment.id == record.deployment_id)
    return next((one.artefact_digest for one in answered), None)
