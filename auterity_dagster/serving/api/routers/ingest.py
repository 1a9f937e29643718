"""Leads and stock posted with a key: the same way as a webhook's, without its signature."""

import asyncio
import hashlib
from collections.abc import Sequence
from typing import Annotated, Any
from uuid import UUID

from fastapi import Header, Request
from pydantic import BaseModel, ConfigDict, Field

from auterity_dagster.automatrix.adf_text import BYTE_LIMIT
from auterity_dagster.automatrix.inbound import InboundKind
from auterity_dagster.automatrix.inventory_absence import Absence
from auterity_dagster.automatrix.inventory_csv import BYTE_LIMIT as FEED_LIMIT_BYTES
from auterity_dagster.automatrix.inventory_csv import read_csv_feed
from auterity_dagster.automatrix.inventory_row import RowError, named_by, read_rows
from auterity_dagster.automatrix.ports import StockVehicle
from auterity_dagster.errors import NotFound
from auterity_dagster.identity.permission import Permission
from auterity_dagster.identity.principal import Principal
from auterity_dagster.serving.api.routers.hooks import DeliveryRead
from auterity_dagster.serving.api.state import ApiState, State
from auterity_dagster.serving.authentication import CurrentPrincipal
from auterity_dagster.serving.declared_router import DeclaredRouter, raw_body
from auterity_dagster.serving.delivery import or_unavailable, take
from auterity_dagster.storage.repositories import audit, inventory, inventory_absence, organizations
from auterity_dagster.storage.repositories.inbound_events import Delivery

router = DeclaredRouter(tags=["ingest"])
IdempotencyKey = Annotated[str | None, Header(pattern=r"^[!-~]{1,200}$")]


class InventoryWrite(BaseModel):
    """A stock feed's rows; each is read by itself. A whole feed unlists what it does not name."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dealership_id: UUID
    rows: Annotated[list[Any], Field(max_length=20_000)]
    is_whole: bool = False


class BadRow(BaseModel):
    """A row that was not taken; `row` counts from 1."""

    row: int
    field: str
    reason: str


class InventoryTaken(BaseModel):
    """How many vehicles were taken, what is wrong with the rest, and how many a whole feed no longer names.

    Those are `unlisted`, or stay on offer, `waiting` for a person, where it is half of the stock or more.
    """

    taken: int
    bad_rows: list[BadRow]
    unlisted: int
    waiting: int


@router.post(
    "/ingest/adf",
    authentication="user_or_api_key",
    permission=Permission.INGEST_WRITE,
    body_limit_bytes=BYTE_LIMIT,
    audit_class="none",
    status_code=202,
    problems=(404, 409),
    openapi_extra=raw_body("application/xml"),
)
async def ingest_adf(
    dealership_id: UUID,
    request: Request,
    state: State,
    principal: CurrentPrincipal,
    idempotency_key: IdempotencyKey = None,
) -> DeliveryRead:
    """Take an ADF document for a dealership; the same body or key again answers with the first delivery."""
    body = await request.body()
    return await _take(state, principal, dealership_id, kind="adf", body=body, idempotency_key=idempotency_key)


@router.post(
    "/ingest/leads",
    authentication="user_or_api_key",
    permission=Permission.INGEST_WRITE,
    body_limit_bytes=BYTE_LIMIT,
    audit_class="none",
    status_code=202,
    problems=(404, 409),
    openapi_extra=raw_body("application/json"),
)
async def ingest_lead(
    dealership_id: UUID,
    request: Request,
    state: State,
    principal: CurrentPrincipal,
    idempotency_key: IdempotencyKey = None,
) -> DeliveryRead:
    """Take a JSON lead for a dealership; see `docs/webhooks.md` for its schema."""
    body = await request.body()
    return await _take(state, principal, dealership_id, kind="json", body=body, idempotency_key=idempotency_key)


@router.post(
    "/ingest/inventory",
    authentication="user_or_api_key",
    permission=Permission.INGEST_WRITE,
    body_limit_bytes=FEED_LIMIT_BYTES,
    audit_class="change",
    problems=(404,),
)
async def ingest_inventory(write: InventoryWrite, state: State, principal: CurrentPrincipal) -> InventoryTaken:
    """Insert or replace vehicles by stock number; bad rows are listed and the rest is taken."""
    vehicles, errors = read_rows(write.rows)
    named = named_by(write.rows) if write.is_whole else None
    return await _fed(state, principal, write.dealership_id, vehicles, errors, named=named)


@router.post(
    "/ingest/inventory/file",
    authentication="user_or_api_key",
    permission=Permission.INGEST_WRITE,
    body_limit_bytes=FEED_LIMIT_BYTES,
    audit_class="change",
    problems=(404,),
    openapi_extra=raw_body("text/csv"),
)
async def ingest_inventory_file(
    dealership_id: UUID, request: Request, state: State, principal: CurrentPrincipal, is_whole: bool = False
) -> InventoryTaken:
    """The same for a CSV file with a header, as a dealer's system exports it; a bad row is named by its line."""
    feed = await asyncio.to_thread(read_csv_feed, await request.body())
    named = feed.named if is_whole else None
    return await _fed(state, principal, dealership_id, feed.vehicles, feed.errors, named=named)


async def _fed(
    state: ApiState,
    principal: Principal,
    dealership_id: UUID,
    vehicles: Sequence[StockVehicle],
    errors: Sequence[RowError],
    *,
    named: frozenset[str] | None,
) -> InventoryTaken:
    """Store a feed; with `named` it is the whole stock."""
    now = state.clock.now()
    missing = Absence()
    async with or_unavailable(), state.database.begin(principal.organization_id) as session:
        await _require_dealership(session, principal, dealership_id)
        if named is None:
            taken = await inventory.feed(session, vehicles, dealership_id=dealership_id, now=now)
        else:
            taken, missing = await inventory_absence.feed_whole(
                session, vehicles, named=named, dealership_id=dealership_id, now=now
            )
        await audit.append(
            session,
            actor=principal,
            action="inventory.fed",
            subject=f"dealerships/{dealership_id}",
            details={
                "taken": taken, "bad_rows": len(errors), "unlisted": missing.unlisted, "waiting": missing.waiting,
            },
        )  # fmt: skip
    bad_rows = [BadRow(row=error.row, field=error.field, reason=error.reason) for error in errors]
    return InventoryTaken(taken=taken, bad_rows=bad_rows, unlisted=missing.unlisted, waiting=missing.waiting)


async def _take(
    state: ApiState,
    principal: Principal,
    dealership_id: UUID,
    *,
    kind: InboundKind,
    body: bytes,
    idempotency_key: str | None,
) -> DeliveryRead:
    async with or_unavailable(), state.database.begin(principal.organization_id) as session:
        await _require_dealership(session, principal, dealership_id)
    message_id = idempotency_key or hashlib.sha256(body).hexdigest()
    delivery = Delivery(dealership_id, f"api:{dealership_id}", None, message_id, kind, body, state.clock.now())
    event_id, judged = await take(
        state.database, principal.organization_id, delivery, pepper=state.pepper, clock=state.clock
    )
    return DeliveryRead(inbound_event_id=event_id, state=judged)


async def _require_dealership(session: Any, principal: Principal, dealership_id: UUID) -> None:
    if not principal.may_see(dealership_id):
        raise NotFound("there is no such dealership")
    await organizations.get_dealership(session, dealership_id)
