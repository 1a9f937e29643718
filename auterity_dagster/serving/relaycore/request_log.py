"""Write finished requests down in batches, off the callers' path."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import orjson
import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncSession

from auterity_dagster.relaycore.decision_record import catalog_document, compact, inputs_document
from auterity_dagster.relaycore.ports import RequestRecord
from auterity_dagster.relaycore.watching import watched_choice
from auterity_dagster.storage.database import Database
from auterity_dagster.storage.repositories.kept_answers import add_hits
from auterity_dagster.storage.repositories.routing import add_decision_context, add_requests

FLUSH_S = 0.25
LIMIT = 20_000
CONTEXTS_REMEMBERED = 10_000
ENCODED_AT_ONCE = 4

_log = structlog.get_logger(__name__)


class RequestWriter:
    """Keeps records for a quarter of a second and writes them together; while PostgreSQL is away it keeps 20,000."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: list[RequestRecord] = []
        self._written_contexts: set[tuple[UUID, str, str]] = set()

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
        """Write what waits now, one transaction an organization; what could not be written waits again."""
        batch, self._waiting = self._waiting, []
        by_organization: dict[UUID, list[RequestRecord]] = defaultdict(list)
        for record in batch:
            by_organization[record.request.caller.organization_id].append(record)
        failed: list[RequestRecord] = []
        try:
            for organization_id, records in list(by_organization.items()):
                if not await self._write(organization_id, records):
                    failed += records
                del by_organization[organization_id]
        finally:  # also when this is cancelled, for a flush of its own comes at the process's end
            unwritten = [record for records in by_organization.values() for record in records]
            self._waiting = [*failed, *unwritten, *self._waiting][:LIMIT]

    async def _write(self, organization_id: UUID, records: Sequence[RequestRecord]) -> bool:
        """Write the records of an organization; False if PostgreSQL did not take them."""
        rows = await _encoded(records)
        try:
            async with self._database.begin(organization_id) as session:
                written = await self._add_contexts(session, organization_id, records)
                await add_requests(session, rows)
                await add_hits(session, [(record, record.hit) for record in records if record.hit is not None])
        except (DBAPIError, PoolTimeout) as error:
            _log.warning("requests_not_written", count=len(records), reason=type(error).__name__)
            return False
        self._written_contexts |= written
        return True

    async def _add_contexts(
        self, session: AsyncSession, organization_id: UUID, records: Sequence[RequestRecord]
    ) -> set[tuple[UUID, str, str]]:
        """Store policies and catalogues that this process has not stored yet; another one may have."""
        if len(self._written_contexts) > CONTEXTS_REMEMBERED:
            self._written_contexts.clear()
        written: set[tuple[UUID, str, str]] = set()
        for steering in (record.steering for record in records if record.steering is not None):
            policy, snapshot = steering.policy, steering.snapshot
            for kind, digest in (("policy", policy.digest), ("catalog", snapshot.digest)):
                place = (organization_id, kind, digest)
                if place not in self._written_contexts and place not in written:
                    content = {"yaml": policy.text} if kind == "policy" else catalog_document(snapshot)
                    await add_decision_context(session, organization_id, kind=kind, digest=digest, content=content)
                    written.add(place)
        return written


async def _encoded(records: Sequence[RequestRecord]) -> str:
    """The records as a JSON list of rows, made a few at a time: no caller's answer waits for all of them."""
    rows: list[bytes] = []
    for start in range(0, len(records), ENCODED_AT_ONCE):
        rows += [orjson.dumps(_row(record)) for record in records[start : start + ENCODED_AT_ONCE]]
        await asyncio.sleep(0)
    # PostgreSQL stores no NUL, and one in a caller's text must not keep the others' records from being written.
    return f"[{b','.join(rows).decode()}]".replace("\\u0000", "\\ufffd")


def _decided_on(record: RequestRecord) -> dict[str, Any] | None:
    if record.steering is None:
        return None
    return inputs_document(record.steering.policy, record.request, record.steering.snapshot)


def _row(record: RequestRecord) -> dict[str, object]:
    """The record as the columns of its row; orjson writes ids, times and frozen classes by itself."""
    request, route, usage = record.request, record.route, record.usage
    chosen = route or record.refusal
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
        "policy_digest": record.steering.policy.digest if record.steering else "",
        "rule": route.rule if route else None,
        "decision": compact(chosen) if chosen is not None else {},
        "decided_on": _decided_on(record),
        "deployment_id": record.deployment_id,
        "artefact_digest": _artefact_digest(record),
        "attempts": record.attempts,
        "outcome": record.outcome,
        "prompt_tokens": usage.prompt_tokens if usage else None,
        "completion_tokens": usage.completion_tokens if usage else None,
        "cost_nusd": record.cost_nusd,
        "latency_ms": record.latency_ms,
        "received_at": record.received_at,
        "predicted": _predicted(record),
        "propensity": _propensity(record),
    }


def _predicted(record: RequestRecord) -> dict[str, object] | None:
    """What a learned predictor would have chosen, or did; None where none was asked."""
    if record.steering is None:
        return None
    watched = watched_choice(record.steering.policy, record.request, record.steering.snapshot)
    return {"predictor": watched[0], "choice": watched[1]} if watched is not None else None


def _propensity(record: RequestRecord) -> float | None:
    """How likely what answered was to answer; None where a failure or an empty allowance moved the request on."""
    route = record.route
    if route is None or record.hit is not None or record.deployment_id != route.steps[0].deployment.id:
        return None
    return route.propensity


def _artefact_digest(record: RequestRecord) -> str | None:
    """Which bytes answered: the deployment may serve others when a label arrives."""
    steps = record.route.steps if record.route else ()
    answered = (one.deployment for one in steps if one.deployment.id == record.deployment_id)
    return next((one.artefact_digest for one in answered), None)
