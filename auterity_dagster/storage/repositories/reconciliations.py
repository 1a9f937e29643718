"""Booking what a provider's bill says: adjustments of closed holds, and a record of each comparison."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, time, timedelta
from uuid import UUID, uuid4

import orjson
from sqlalchemy import and_, select
from sqlalchemy.orm import Session

from auterity_dagster.errors import Invalid
from auterity_dagster.money import NanoUsd
from auterity_dagster.relaycore.bill_file import read_bill
from auterity_dagster.relaycore.reconciliation import BillLine, BookedCall, Reconciliation, reconcile
from auterity_dagster.storage.repositories import audit
from auterity_dagster.storage.repositories.audit import organization_of
from auterity_dagster.storage.repositories.ledger_statements import CORRECT
from auterity_dagster.storage.tables.ledger import HoldRow, ReconciliationRow, UsageRow

KEPT_DIFFERENCES = 1000
"""More of them stand in no record: their number does."""


@dataclass(frozen=True, slots=True)
class Bill:
    """A bill of one provider for the days from `since` to `until`, both included; `digest` is that of its file."""

    provider: str
    since: date
    until: date
    digest: str
    lines: Sequence[BillLine]


def bill_from(text: str, *, is_csv: bool, provider: str, since: date | None, until: date | None) -> Bill:
    """Read a bill; its days are those given, or those that its lines name. Raises `Invalid`."""
    lines = read_bill(text.splitlines(), is_csv=is_csv)
    days = [line.day for line in lines if line.day is not None]
    since, until = since or min(days, default=None), until or max(days, default=None)
    if since is None or until is None:
        raise Invalid("The bill's lines name no days: say which ones it covers")
    return Bill(provider, since, until, hashlib.sha256(text.encode()).hexdigest(), lines)


def is_booked(session: Session, provider: str, digest: str) -> bool:
    """True if a bill with these bytes was compared before."""
    same = select(ReconciliationRow.id).where(
        ReconciliationRow.provider == provider, ReconciliationRow.bill_digest == digest
    )
    return session.scalar(same.limit(1)) is not None


def book(session: Session, bill: Bill) -> ReconciliationRow:
    """Compare the session's organization with a bill and book the corrections, in the caller's transaction.

    A bill that was booked already finds nothing to correct.
    """
    organization_id = organization_of(session)
    result = reconcile(bill.lines, booked_calls(session, bill))
    adjusted_nusd = _correct(session, organization_id, result)
    row = ReconciliationRow(
        organization_id=organization_id,
        id=uuid4(),
        provider=bill.provider,
        since=bill.since,
        until=bill.until,
        bill_digest=bill.digest,
        lines=len(bill.lines),
        matched_lines=result.matched_lines,
        billed_nusd=result.billed_nusd,
        corrections=len(result.corrections),
        adjusted_nusd=adjusted_nusd,
        differences=len(result.differences),
        report=orjson.loads(orjson.dumps([asdict(one) for one in result.differences[:KEPT_DIFFERENCES]])),
    )
    session.add(row)
    session.flush()
    audit.append_blocking(
        session,
        actor=None,
        action="ledger.reconciled",
        subject=f"reconciliation/{row.id}",
        details={"bill_digest": bill.digest, "corrections": row.corrections, "adjusted_nusd": adjusted_nusd},
    )
    return row


def booked_calls(session: Session, bill: Bill) -> list[BookedCall]:
    """Return the organization's closed calls to the bill's provider; a day more at each end, for its midnight."""
    begins = datetime.combine(bill.since - timedelta(days=1), time.min, UTC)
    ends = datetime.combine(bill.until + timedelta(days=2), time.min, UTC)
    rows = session.execute(
        select(HoldRow, UsageRow.provider_request_id)
        .outerjoin(UsageRow, and_(UsageRow.id == HoldRow.id, UsageRow.organization_id == HoldRow.organization_id))
        .where(
            HoldRow.state != "held",
            HoldRow.price_key.startswith(f"{bill.provider}/", autoescape=True),
            HoldRow.created_at >= begins,
            HoldRow.created_at < ends,
        )
        .order_by(HoldRow.created_at, HoldRow.id)
    )
    return [_call(hold, provider_request_id) for hold, provider_request_id in rows]


def reconciliations(session: Session, *, limit: int) -> Sequence[ReconciliationRow]:
    """Return the newest comparisons."""
    newest = select(ReconciliationRow).order_by(ReconciliationRow.created_at.desc(), ReconciliationRow.id)
    return session.scalars(newest.limit(limit)).all()


def _call(hold: HoldRow, provider_request_id: str | None) -> BookedCall:
    key = hold.price_key
    return BookedCall(
        hold_id=hold.id,
        provider_request_id=provider_request_id,
        day=hold.created_at.astimezone(UTC).date(),
        models=frozenset({hold.deployment_id, key, key.replace("/", "-"), key.partition("/")[2]}),
        # A corrected hold keeps its state; its cost is known from then on.
        is_unknown=hold.state == "unknown" and hold.adjusted_at is None,
        amount_nusd=hold.amount_nusd,
        booked_nusd=hold.cost_nusd or 0,
    )


def _correct(session: Session, organization_id: UUID, result: Reconciliation) -> NanoUsd:
    if not result.corrections:
        return 0
    parameters = {
        "organization_id": organization_id,
        "hold_ids": [one.hold_id for one in result.corrections],
        "corrections": orjson.dumps(
            [{"id": one.hold_id, "due_nusd": one.due_nusd} for one in result.corrections]
        ).decode(),
    }
    adjusted = session.connection().exec_driver_sql(CORRECT, parameters).scalar_one()
    return int(adjusted)
