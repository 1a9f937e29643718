"""Tables of the ledger: budgets and their windows, holds, bookings, and what each attempt used."""

from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, SmallInteger, Text, Uuid, func
from sqlalchemy.orm import Mapped, mapped_column

from auterity_dagster.storage.tables.base import Base


class BudgetRow(Base):
    """A budget: whom it binds, how much, how often it starts anew. Every change raises `version`."""

    __tablename__ = "budget"

    organization_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str]
    scope: Mapped[str]
    value: Mapped[str]
    period: Mapped[str]
    time_zone: Mapped[str]
    cap_nusd: Mapped[int]
    enforcement: Mapped[str]
    alert_percents: Mapped[list[int]] = mapped_column(ARRAY(SmallInteger))
    version: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    archived_at: Mapped[datetime | None]


class BudgetWindowRow(Base):
    """One period of one budget for one value of its scope; the row that holds and settlements move."""

    __tablename__ = "budget_window"

    organization_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    budget_id: Mapped[UUID]
    value: Mapped[str]
    opens_at: Mapped[datetime]
    closes_at: Mapped[datetime | None]
    is_hard: Mapped[bool]
    cap_nusd: Mapped[int]
    held_nusd: Mapped[int]
    settled_nusd: Mapped[int]
    overage_nusd: Mapped[int]
    alert_percents: Mapped[list[int]] = mapped_column(ARRAY(SmallInteger))
    alerted_percent: Mapped[int]


class BudgetProposalRow(Base):
    """A cap above what one person may set alone: it waits for another one, who agrees or not."""

    __tablename__ = "budget_proposal"

    organization_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    budget_id: Mapped[UUID]
    version: Mapped[int]
    cap_nusd: Mapped[int]
    alert_percents: Mapped[list[int]] = mapped_column(ARRAY(SmallInteger))
    state: Mapped[str]
    proposed_by: Mapped[UUID]
    proposed_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime]
    decided_by: Mapped[UUID | None]
    decided_at: Mapped[datetime | None]


class BudgetAlertRow(Base):
    """A window's spend has reached a percentage of its cap; written with the booking, announced soon after."""

    __tablename__ = "budget_alert"

    organization_id: Mapped[UUID] = mapped_column(primary_key=True)
    window_id: Mapped[UUID] = mapped_column(primary_key=True)
    percent: Mapped[int] = mapped_column(primary_key=True)
    settled_nusd: Mapped[int]
    cap_nusd: Mapped[int]
    crossed_at: Mapped[datetime] = mapped_column(server_default=func.now())
    announced_at: Mapped[datetime | None]


class HoldRow(Base):
    """Money set aside for one attempt: held, then settled, voided or unknown."""

    __tablename__ = "hold"

    organization_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    request_id: Mapped[UUID]
    attempt: Mapped[int]
    dealership_id: Mapped[UUID | None]
    key_id: Mapped[UUID]
    user_id: Mapped[UUID | None]
    purpose: Mapped[str]
    tags: Mapped[list[str]] = mapped_column(ARRAY(Text))
    deployment_id: Mapped[str]
    price_key: Mapped[str]
    price_digest: Mapped[str]
    window_ids: Mapped[list[UUID]] = mapped_column(ARRAY(Uuid(as_uuid=True)))
    amount_nusd: Mapped[int]
    cost_nusd: Mapped[int | None]
    state: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    dispatched_at: Mapped[datetime | None]
    expires_at: Mapped[datetime]
    closed_at: Mapped[datetime | None]
    closed_by: Mapped[str | None]
    adjusted_at: Mapped[datetime | None]


class IdempotencyRow(Base):
    """A call that carried an `Idempotency-Key`: its latest hold, and once it is done its answer, sealed."""

    __tablename__ = "idempotency"

    organization_id: Mapped[UUID] = mapped_column(primary_key=True)
    key_digest: Mapped[bytes] = mapped_column(primary_key=True)
    id: Mapped[UUID]
    request_digest: Mapped[bytes]
    request_id: Mapped[UUID]
    hold_id: Mapped[UUID]
    answer: Mapped[bytes | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime]


class EntryRow(Base):
    """One side of a booking. Accounts: `spend`, `suspense` (unknown cost), `payable:<price key>`. Only ever added."""

    __tablename__ = "entry"

    organization_id: Mapped[UUID] = mapped_column(primary_key=True)
    hold_id: Mapped[UUID] = mapped_column(primary_key=True)
    sequence: Mapped[int] = mapped_column(primary_key=True)
    account: Mapped[str] = mapped_column(primary_key=True)
    amount_nusd: Mapped[int]
    kind: Mapped[str]
    price_digest: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class ReconciliationRow(Base):
    """One comparison with a provider's bill: what was corrected, and what nobody could explain."""

    __tablename__ = "reconciliation"

    organization_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    provider: Mapped[str]
    since: Mapped[date]
    until: Mapped[date]
    bill_digest: Mapped[str]
    lines: Mapped[int]
    matched_lines: Mapped[int]
    billed_nusd: Mapped[int]
    corrections: Mapped[int]
    adjusted_nusd: Mapped[int]
    differences: Mapped[int]
    report: Mapped[list[Any]]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class UsageRow(Base):
    """What one attempt used and cost. `id` is its hold's; tokens are NULL when the provider reported none."""

    __tablename__ = "usage"

    organization_id: Mapped[UUID] = mapped_column(primary_key=True)
    day: Mapped[date] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    request_id: Mapped[UUID]
    attempt: Mapped[int]
    dealership_id: Mapped[UUID | None]
    key_id: Mapped[UUID]
    purpose: Mapped[str]
    task: Mapped[str | None]
    deployment_id: Mapped[str]
    price_key: Mapped[str]
    price_digest: Mapped[str]
    prompt_tokens: Mapped[int | None]
    cache_read_tokens: Mapped[int | None]
    cache_write_5m_tokens: Mapped[int | None]
    cache_write_1h_tokens: Mapped[int | None]
    completion_tokens: Mapped[int | None]
    cost_nusd: Mapped[int]
    outcome: Mapped[str]
    latency_ms: Mapped[int | None]
    first_token_ms: Mapped[int | None]
    is_streamed: Mapped[bool]
    provider_request_id: Mapped[str | None]
    policy_digest: Mapped[str]
    rule: Mapped[str | None]
    happened_at: Mapped[datetime] = mapped_column(server_default=func.now())
