"""Budgets and proposed changes of them as the API takes and shows them."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from auterity_dagster.errors import Invalid
from auterity_dagster.money import in_usd
from auterity_dagster.relaycore.budget import ALERT_PERCENTS, EVERY_VALUE, Enforcement, Period, Scope
from auterity_dagster.storage.tables.ledger import BudgetProposalRow, BudgetRow

Percents = Annotated[tuple[Annotated[int, Field(ge=1, le=200)], ...], Field(max_length=10)]
Dollars = Annotated[str, StringConstraints(strict=True, pattern=r"^[0-9]{1,7}(\.[0-9]{1,9})?$")]


class BudgetAdd(BaseModel):
    """A new budget. `value` is the id or name that it binds; `*` gives each of the scope's values its own."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, StringConstraints(min_length=1, max_length=120, strip_whitespace=True)]
    scope: Scope
    value: Annotated[str, StringConstraints(min_length=1, max_length=200)] = EVERY_VALUE
    period: Period
    time_zone: Annotated[str, StringConstraints(max_length=64)] = "UTC"
    cap_usd: Dollars
    enforcement: Enforcement = Enforcement.HARD
    alert_percents: Percents = ALERT_PERCENTS


class BudgetChange(BaseModel):
    """What to change: the cap in dollars, the shares of it at which people are told, or both."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cap_usd: Dollars | None = None
    alert_percents: Percents | None = None


class BudgetRead(BaseModel):
    """A budget; `version` goes into `If-Match` to change it."""

    id: UUID
    name: str
    scope: Scope
    value: str
    period: Period
    time_zone: str
    cap_usd: str
    cap_nusd: int
    enforcement: Enforcement
    alert_percents: list[int]
    version: int


class ProposalRead(BaseModel):
    """A change of a budget that waits, or waited, for a second person; `version` is the budget's it was made on."""

    id: UUID
    budget_id: UUID
    version: int
    cap_usd: str
    cap_nusd: int
    alert_percents: list[int]
    state: Literal["waiting", "approved", "rejected", "expired"]
    proposed_by: UUID
    proposed_at: datetime
    expires_at: datetime
    decided_by: UUID | None
    decided_at: datetime | None


def budget_read(budget: BudgetRow) -> BudgetRead:
    """Return a budget as the API shows it."""
    return BudgetRead(
        id=budget.id,
        name=budget.name,
        scope=Scope(budget.scope),
        value=budget.value,
        period=Period(budget.period),
        time_zone=budget.time_zone,
        cap_usd=in_usd(budget.cap_nusd),
        cap_nusd=budget.cap_nusd,
        enforcement=Enforcement(budget.enforcement),
        alert_percents=budget.alert_percents,
        version=budget.version,
    )


def proposal_read(row: BudgetProposalRow) -> ProposalRead:
    """Return a proposal as the API shows it."""
    columns = {name: getattr(row, name) for name in ProposalRead.model_fields if name != "cap_usd"}
    return ProposalRead(**columns, cap_usd=in_usd(row.cap_nusd))


def version_of(if_match: str) -> int:
    """Return the version that `If-Match` carries. Raises `Invalid`."""
    written = if_match.strip('"')
    if not written.isdecimal() or len(written) > 18:
        raise Invalid("If-Match carries the budget's version", field="if-match")
    return int(written)
