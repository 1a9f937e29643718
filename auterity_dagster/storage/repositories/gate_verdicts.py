"""Gate verdicts: written once for an artefact's bytes, re-read at registration, deployment and routing."""

from uuid import UUID

from sqlalchemy import ColumnElement, Select, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from auterity_dagster.neuroweaver.verdict import Verdict
from auterity_dagster.storage.tables.specialisation import GateVerdictRow


def add_verdict(session: Session, row: GateVerdictRow) -> None:
    """Store a verdict; the same verdict (same digest, hence same evidence) a second time changes nothing."""
    values = {
        column.key: value
        for column in GateVerdictRow.__table__.columns
        if (value := getattr(row, column.key)) is not None
    }
    session.execute(insert(GateVerdictRow).values(values).on_conflict_do_nothing())


def verdict_row(
    verdict: Verdict, *, organization_id: UUID, scope: str, dataset_digest: str | None = None
) -> GateVerdictRow:
    """Return a verdict as its row; `dataset_digest` names the rows that the artefact was trained on."""
    return GateVerdictRow(
        organization_id=organization_id,
        verdict_digest=verdict.verdict_digest,
        artefact_digest=verdict.artefact_digest,
        scope=scope,
        outcome=verdict.outcome.value,
        profile=verdict.profile,
        champion_digest=verdict.champion_digest or "",
        report_digest=verdict.evaluation_digest or "",
        dataset_digest=dataset_digest,
        reasons=[gate.model_dump(mode="json") for gate in verdict.gates],
        decided_at=verdict.decided_at,
        expires_at=verdict.expires_at,
    )


def latest_verdict(session: Session, artefact_digest: str) -> GateVerdictRow | None:
    """Return the newest verdict about these bytes, whatever it says, or None."""
    return session.scalar(_latest(artefact_digest))


def verdict_passes(session: Session, artefact_digest: str) -> bool:
    """True if the newest verdict about exactly these bytes is PASS and still in force; no verdict is no pass."""
    return bool(session.scalar(passes(artefact_digest)))


async def verdict_passes_async(session: AsyncSession, artefact_digest: str) -> bool:
    """The same for the async processes."""
    return bool(await session.scalar(passes(artefact_digest)))


def passes(artefact_digest: str | ColumnElement[str]) -> Select[bool]:
    """Select whether the newest verdict about a digest, given as a value or a column, is PASS and in force."""
    return (
        select((GateVerdictRow.outcome == "PASS") & (GateVerdictRow.expires_at > func.now()))
        .where(GateVerdictRow.artefact_digest == artefact_digest)
        .order_by(GateVerdictRow.decided_at.desc(), GateVerdictRow.verdict_digest)
        .limit(1)
    )


def verdict_by_digest(session: Session, organization_id: UUID, verdict_digest: str) -> GateVerdictRow | None:
    """Return the verdict with this digest, or None."""
    return session.get(GateVerdictRow, (organization_id, verdict_digest))


def _latest(artefact_digest: str) -> Select[GateVerdictRow]:
    return (
        select(GateVerdictRow)
        .where(GateVerdictRow.artefact_digest == artefact_digest)
        .order_by(GateVerdictRow.decided_at.desc(), GateVerdictRow.verdict_digest)
        .limit(1)
    )
