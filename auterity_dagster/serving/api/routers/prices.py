"""Prices: the common list with an organization's own dated entries, imported, compared, approved by a second person."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, date, datetime, time
from typing import Annotated, Any
from uuid import UUID

from fastapi import Query
from pydantic import BaseModel, ConfigDict, StringConstraints

from auterity_dagster.errors import ConfigurationInvalid
from auterity_dagster.identity.permission import Permission
from auterity_dagster.identity.principal import Principal
from auterity_dagster.money import in_usd
from auterity_dagster.relaycore.price_change import PriceChange, price_changes
from auterity_dagster.relaycore.price_list import parse_entries
from auterity_dagster.relaycore.pricing import Price
from auterity_dagster.serving.api.state import State
from auterity_dagster.serving.api.steering import price_list, refusal
from auterity_dagster.serving.api.whole_organization import require_whole_organization
from auterity_dagster.serving.authentication import CurrentPrincipal
from auterity_dagster.serving.declared_router import DeclaredRouter
from auterity_dagster.storage.repositories import audit, prices
from auterity_dagster.storage.tables.steering import PriceRow

router = DeclaredRouter(tags=["Prices"])
BODY_LIMIT_BYTES = 300_000
READ: dict[str, Any] = {
    "authentication": "user_or_api_key",
    "permission": Permission.STEERING_READ,
    "body_limit_bytes": 0,
    "audit_class": "none",
}
CHANGE: dict[str, Any] = {
    "authentication": "user",
    "permission": Permission.PRICE_APPROVE,
    "body_limit_bytes": BODY_LIMIT_BYTES,
    "audit_class": "change",
}


class PriceImport(BaseModel):
    """Dated entries, as `config/prices.yaml` writes them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    yaml: Annotated[str, StringConstraints(min_length=1, max_length=250_000)]


class RatesRead(BaseModel):
    """US dollars per million tokens, for prompts of more than `above_prompt_tokens`; null: no such class."""

    above_prompt_tokens: int
    input: str
    output: str
    cache_read: str | None
    cache_write_5m: str | None
    cache_write_1h: str | None


class PriceRead(BaseModel):
    """One dated price; `digest` stands in holds and settlements."""

    key: str
    in_force_from: date
    digest: str
    source: str
    usd_per_mtok: list[RatesRead]


class PriceChangeRead(BaseModel):
    """An entry beside the price of its day without it; see `PriceEntryRead` for `change_percent`."""

    before: PriceRead | None
    after: PriceRead
    change_percent: int | None
    needs_approval: bool


class PriceEntryRead(BaseModel):
    """An entry of the organization's own. It takes effect from its day on once `approved_at` is set.

    `change_percent` is the largest change of a rate; null where there is nothing to compare with.
    """

    id: UUID
    price: PriceRead
    change_percent: int | None
    imported_by: UUID
    imported_at: datetime
    approved_by: UUID | None
    approved_at: datetime | None


@router.get("/prices", **READ)
async def list_prices(state: State, principal: CurrentPrincipal, on: date | None = None) -> list[PriceRead]:
    """Return every price in force on a day (UTC; today), the organization's own in place of the common ones."""
    at = state.clock.now() if on is None else datetime.combine(on, time(12), UTC)
    listed = (await price_list(state, principal.organization_id)).all_in_force(at)
    return [_price(listed[key]) for key in sorted(listed)]


@router.get("/prices/entries", **READ)
async def list_entries(
    state: State,
    principal: CurrentPrincipal,
    waiting: bool | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> list[PriceEntryRead]:
    """Return the organization's own entries, the newest first; `waiting=true` those that need a second person."""
    async with state.database.begin(principal.organization_id) as session:
        return [_entry(row) for row in await prices.entries(session, is_waiting=waiting, limit=limit)]


@router.post("/prices:diff", **CHANGE | {"audit_class": "none"})
async def diff_prices(state: State, principal: CurrentPrincipal, write: PriceImport) -> list[PriceChangeRead]:
    """Say what an import would change; nothing is stored."""
    return [
        PriceChangeRead(
            before=None if one.before is None else _price(one.before),
            after=_price(one.price),
            change_percent=one.change_percent,
            needs_approval=one.needs_approval,
        )
        for one in await _changes(state, principal, write)
    ]


@router.post("/prices", status_code=201, **CHANGE, problems=(409,))
async def import_prices(state: State, principal: CurrentPrincipal, write: PriceImport) -> list[PriceEntryRead]:
    """Store entries. Those that change a price by more than 20 % wait for a second person, the others are in force."""
    changes = await _changes(state, principal, write)
    async with state.database.begin(principal.organization_id) as session:
        rows = await prices.import_prices(session, principal.organization_id, changes, by=principal.id)
        waiting = [row.digest for row in rows if row.approved_at is None]
        details = {"digests": [row.digest for row in rows], "waiting": waiting}
        await audit.append(session, actor=principal, action="price.imported", subject="price", details=details)
        return [_entry(row) for row in rows]


@router.post("/prices/{entry_id}:approve", **CHANGE | {"body_limit_bytes": 0}, problems=(409,))
async def approve_price(state: State, principal: CurrentPrincipal, entry_id: UUID) -> PriceEntryRead:
    """Let an entry take effect; another person than the one who imported it does that. An entry never changes."""
    require_whole_organization(principal)
    async with state.database.begin(principal.organization_id) as session:
        row = await prices.approve_price(session, entry_id, by=principal.id)
        details = {"digest": row.digest, "key": row.key, "in_force_from": row.in_force_from.isoformat()}
        await audit.append(
            session, actor=principal, action="price.approved", subject=f"price/{row.id}", details=details
        )
        return _entry(row)


async def _changes(state: State, principal: Principal, write: PriceImport) -> Sequence[PriceChange]:
    require_whole_organization(principal)
    listed = await price_list(state, principal.organization_id)
    try:
        entries = await asyncio.to_thread(parse_entries, write.yaml, source="yaml")
    except ConfigurationInvalid as error:
        raise refusal(error, what="prices") from error
    return await asyncio.to_thread(price_changes, entries, listed, today=state.clock.now().date())


def _entry(row: PriceRow) -> PriceEntryRead:
    return PriceEntryRead(
        id=row.id,
        price=_price(prices.price_of(row)),
        change_percent=row.change_percent,
        imported_by=row.imported_by,
        imported_at=row.imported_at,
        approved_by=row.approved_by,
        approved_at=row.approved_at,
    )


def _price(price: Price) -> PriceRead:
    return PriceRead(
        key=price.key,
        in_force_from=price.in_force_from,
        digest=price.digest,
        source=price.source,
        usd_per_mtok=[
            RatesRead(
                above_prompt_tokens=rates.above_prompt_tokens,
                input=in_usd(rates.input),
                output=in_usd(rates.output),
                cache_read=_usd(rates.cache_read),
                cache_write_5m=_usd(rates.cache_write_5m),
                cache_write_1h=_usd(rates.cache_write_1h),
            )
            for rates in price.tiers
        ],
    )


def _usd(nano_usd: int | None) -> str | None:
    return None if nano_usd is None else in_usd(nano_usd)
