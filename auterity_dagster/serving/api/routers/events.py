"""Events that a dealership's own systems tell: they start workflows, and end what waits for them."""

from typing import Annotated, Any
from uuid import UUID, uuid4

from fastapi import Header
from pydantic import BaseModel, ConfigDict, StringConstraints

from auterity_dagster.automatrix.event import Event
from auterity_dagster.automatrix.inputs import OWN_EVENTS
from auterity_dagster.automatrix.workflow import EventType
from auterity_dagster.errors import Invalid, NotFound
from auterity_dagster.identity.permission import Permission
from auterity_dagster.serving.api.state import State
from auterity_dagster.serving.authentication import CurrentPrincipal
from auterity_dagster.serving.declared_router import DeclaredRouter
from auterity_dagster.storage.repositories.events import deliver
from auterity_dagster.storage.repositories.organizations import require_dealerships
from auterity_dagster.storage.repositories.room import require_room

router = DeclaredRouter(tags=["ingest"])
BODY_LIMIT_BYTES = 64 * 1024


class EventWrite(BaseModel):
    """What happened at a dealership; a wait is ended by fields of `data`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dealership_id: UUID
    type: EventType
    subject: Annotated[str, StringConstraints(min_length=1, max_length=200, strip_whitespace=True)]
    data: dict[str, Any] = {}


class EventRead(BaseModel):
    """The executions that the event started, and those that had waited for it."""

    event_id: UUID
    started: list[UUID]
    continued: list[UUID]


@router.post(
    "/events",
    status_code=202,
    authentication="user_or_api_key",
    permission=Permission.INGEST_WRITE,
    body_limit_bytes=BODY_LIMIT_BYTES,
    audit_class="none",
    problems=(404, 429),
)
async def post_event(
    state: State,
    principal: CurrentPrincipal,
    body: EventWrite,
    idempotency_key: Annotated[str | None, Header(pattern=r"^[!-~]{1,200}$")] = None,
) -> EventRead:
    """Tell what happened; the same `Idempotency-Key` again starts nothing twice."""
    if body.type in OWN_EVENTS:
        raise Invalid(f"{body.type} has a route of its own, which checks what it says", field="type")
    if not principal.may_see(body.dealership_id):
        raise NotFound("there is no such dealership")
    event = Event(
        id=uuid4(), type=body.type, organization_id=principal.organization_id, dealership_id=body.dealership_id,
        subject=body.subject, time=state.clock.now(), data=body.data,
        dedupe_key=f"{body.type}:{body.dealership_id}:{idempotency_key or uuid4()}",
    )  # fmt: skip
    async with state.database.begin(principal.organization_id) as session:
        await require_dealerships(session, frozenset({body.dealership_id}))
        await session.run_sync(require_room, principal.organization_id, wanted=1)
        delivered = await deliver(session, event)
    return EventRead(event_id=event.id, started=list(delivered.started), continued=list(delivered.continued))
