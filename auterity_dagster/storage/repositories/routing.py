"""What routing reads and writes: served deployments, evidence of quality, answered requests."""

import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

from sqlalchemy import Row, Text, bindparam, cast, column, delete, func, select
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from auterity_dagster.relaycore.catalog import Alias, DeploymentOverride, ServedCandidate, ServedDeployment
from auterity_dagster.relaycore.predicted_quality import PublishedPredictor
from auterity_dagster.relaycore.pricing import Price
from auterity_dagster.relaycore.quality import QualityEvidence
from auterity_dagster.relaycore.rate_limit import RateLimit
from auterity_dagster.storage.repositories.deployment_overrides import deployment_overrides
from auterity_dagster.storage.repositories.gate_verdicts import passes
from auterity_dagster.storage.repositories.outcome_sets import published_predictors
from auterity_dagster.storage.repositories.prices import own_prices
from auterity_dagster.storage.repositories.rate_limits import rate_limits
from auterity_dagster.storage.repositories.steering_policies import PolicyVersion, active_version
from auterity_dagster.storage.tables.routing import DeploymentRow, RequestRow, RouteQualityRow
from auterity_dagster.storage.tables.steering import DecisionContextRow

TRAFFIC_ROWS = 20_000
"""So many requests of a window are enough to see it drift; ids are random, so they are any of a day's."""


@dataclass(frozen=True, slots=True)
class RoutingState:
    """One organization's part of a catalogue snapshot."""

    served: tuple[ServedCandidate, ...]
    evidence: tuple[QualityEvidence, ...]
    limits: Mapping[UUID, RateLimit]
    active_policy: PolicyVersion | None
    predictors: tuple[PublishedPredictor, ...]
    own_prices: tuple[Price, ...]
    overrides: Mapping[str, DeploymentOverride]


def publish_deployment(session: Session, served: ServedDeployment) -> None:
    """Make a specialised model known to the gateway, in place of what its id and alias named before.

    Whether it becomes a candidate is decided at every refresh by the gate verdict on its digest, not here.
    """
    values = {
        "model": served.model,
        "artefact_digest": served.artefact_digest,
        "gate_verdict_digest": served.gate_verdict_digest,
        "price_key": served.price_key,
        "weight_percent": served.weight_percent,
        "context_tokens": served.context_tokens,
        "output_tokens": served.output_tokens,
        "tasks": list(served.tasks),
    }
    key = {"organization_id": served.organization_id, "id": served.deployment_id, "alias": served.alias}
    session.execute(
        insert(DeploymentRow)
        .values(**key, **values)
        .on_conflict_do_update(index_elements=list(key), set_={**values, "published_at": func.now()})
    )


def withdraw_deployment(session: Session, *, deployment_id: str, alias: Alias) -> None:
    """Take a specialised model out of routing."""
    session.execute(delete(DeploymentRow).where(DeploymentRow.id == deployment_id, DeploymentRow.alias == alias))


def record_quality(session: Session, evidence: QualityEvidence) -> None:
    """Store what a source measured; what the same source said before of the same task and artefact is replaced."""
    key = {
        "organization_id": evidence.organization_id,
        "task": evidence.task,
        "artefact_digest": evidence.artefact_digest,
        "source": evidence.source,
    }
    values = {"items": evidence.items, "mean_score": evidence.mean_score}
    session.execute(
        insert(RouteQualityRow)
        .values(**key, **values)
        .on_conflict_do_update(index_elements=list(key), set_={**values, "recorded_at": func.now()})
    )


async def routing_state(session: AsyncSession) -> RoutingState:
    """Read the organization's served deployments, each with the newest verdict on its digest; what else steers it."""
    verdict = passes(DeploymentRow.artefact_digest.expression).correlate(DeploymentRow).scalar_subquery()
    served = await session.execute(select(DeploymentRow, verdict).order_by(DeploymentRow.id, DeploymentRow.alias))
    evidence = await session.scalars(select(RouteQualityRow))
    return RoutingState(
        served=tuple(ServedCandidate(_served(row), bool(is_passing)) for row, is_passing in served),
        evidence=tuple(_evidence(row) for row in evidence),
        limits={limit.subject_id: limit for limit in await rate_limits(session)},
        active_policy=await active_version(session),
        predictors=await published_predictors(session),
        own_prices=await own_prices(session),
        overrides=await deployment_overrides(session),
    )


def quality_evidence(session: Session) -> tuple[QualityEvidence, ...]:
    """Return all evidence of the organization."""
    return tuple(_evidence(row) for row in session.scalars(select(RouteQualityRow)))


async def add_requests(session: AsyncSession, rows: str) -> None:
    """Store finished requests of one organization: a JSON list of objects with a value for each column.

    A request that is there already stays: a commit whose answer was lost is tried again.
    One statement and one parameter for all of them: a request costs here a hundredth of what an ORM object costs.
    """
    table = RequestRow.metadata.tables[RequestRow.__tablename__]
    typed = (column(one.name, one.type) for one in table.columns)
    recordset = func.jsonb_to_recordset(cast(bindparam(None, rows, type_=Text()), JSONB)).table_valued(*typed)
    names = [one.name for one in table.columns]
    query = select(recordset.render_derived(with_types=True))
    await session.execute(insert(table).from_select(names, query).on_conflict_do_nothing())


async def add_decision_context(
    session: AsyncSession, organization_id: UUID, *, kind: str, digest: str, content: Mapping[str, typing.Any]
) -> None:
    """Store a policy's text or a catalogue's document, unless it is there."""
    values = {"organization_id": organization_id, "kind": kind, "digest": digest, "content": dict(content)}
    await session.execute(insert(DecisionContextRow).values(**values).on_conflict_do_nothing())


async def recent_requests(
    session: AsyncSession,
    *,
    before: datetime | None,
    task: str | None,
    dealership_ids: frozenset[UUID] | None,
    limit: int,
) -> Sequence[RequestRow]:
    """Return the newest requests first, of these dealerships (None: of all, and of none in particular)."""
    query = select(RequestRow).order_by(RequestRow.received_at.desc(), RequestRow.id).limit(limit)
    if before is not None:
        query = query.where(RequestRow.received_at < before)
    if task is not None:
        query = query.where(RequestRow.task == task)
    if dealership_ids is not None:
        query = query.where(RequestRow.dealership_id.in_(dealership_ids))
    return (await session.scalars(query)).all()


def traffic(
    session: Session, *, since: date, until: date
) -> Sequence[Row[str | None, str | None, str, bool, int | None, int | None, int]]:
    """Return task, deployment, outcome, streaming, tokens of prompt and answer, and latency of some days' requests."""
    query = (
        select(
            RequestRow.task,
            RequestRow.deployment_id,
            RequestRow.outcome,
            RequestRow.is_stream,
            RequestRow.prompt_tokens,
            RequestRow.completion_tokens,
            RequestRow.latency_ms,
        )
        .where(RequestRow.day >= since, RequestRow.day <= until)
        .order_by(RequestRow.day.desc(), RequestRow.id)
        .limit(TRAFFIC_ROWS)
    )
    return session.execute(query).all()


async def request_by_id(session: AsyncSession, request_id: UUID) -> RequestRow | None:
    """Return one request of the organization, or None."""
    return await session.scalar(select(RequestRow).where(RequestRow.id == request_id))


def _evidence(row: RouteQualityRow) -> QualityEvidence:
    return QualityEvidence(
        organization_id=row.organization_id,
        task=row.task,
        artefact_digest=row.artefact_digest,
        source=row.source,
        items=row.items,
        mean_score=row.mean_score,
        recorded_at=row.recorded_at,
    )


def _served(row: DeploymentRow) -> ServedDeployment:
    return ServedDeployment(
        organization_id=row.organization_id,
        deployment_id=row.id,
        artefact_digest=row.artefact_digest,
        model=row.model,
        price_key=row.price_key,
        alias=typing.cast(Alias, row.alias),
        weight_percent=row.weight_percent,
        gate_verdict_digest=row.gate_verdict_digest,
        context_tokens=row.context_tokens,
        output_tokens=row.output_tokens,
        tasks=tuple(str(task) for task in row.tasks),
    )
