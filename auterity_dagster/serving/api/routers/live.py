"""Live events over a WebSocket, and the tickets that open one."""

from typing import Annotated

from fastapi import Depends, Request, WebSocket
from pydantic import BaseModel
from starlette.requests import HTTPConnection

from auterity_dagster.serving.api.state import State
from auterity_dagster.serving.authentication import CurrentPrincipal
from auterity_dagster.serving.declared_router import DeclaredRouter
from auterity_dagster.serving.live_events import LiveEvents
from auterity_dagster.serving.live_frames import PROTOCOL
from auterity_dagster.serving.live_session import FRAME_LIMIT_BYTES, LiveLimits, LiveSession
from auterity_dagster.storage.repositories import live_tickets

router = DeclaredRouter(tags=["live"])


async def live_events(connection: HTTPConnection) -> LiveEvents:
    """Return the process's live events."""
    live: LiveEvents = connection.state.live
    return live


Live = Annotated[LiveEvents, Depends(live_events)]


class Ticket(BaseModel):
    """A ticket for one connection of this user from this origin, within 30 seconds."""

    ticket: str


@router.post(
    "/ws-tickets",
    authentication="user",
    permission="signed_in",
    body_limit_bytes=1024,
    audit_class="none",
    status_code=201,
)
async def issue_ticket(request: Request, state: State, principal: CurrentPrincipal) -> Ticket:
    """Return a ticket; it travels in the first frame, never in an address."""
    async with state.database.begin(principal.organization_id) as session:
        ticket = await live_tickets.issue(
            session, user_id=principal.id, origin=request.headers.get("origin"), now=state.clock.now()
        )
    return Ticket(ticket=ticket)


@router.websocket(
    "/ws",
    authentication="ticket",
    permission="signed_in",
    body_limit_bytes=FRAME_LIMIT_BYTES,
    audit_class="none",
)
async def live_connection(websocket: WebSocket, state: State, live: Live) -> None:
    """Serve one connection of the sub-protocol `automatrix.v1`."""
    is_ours = PROTOCOL in websocket.scope.get("subprotocols", ())
    await websocket.accept(subprotocol=PROTOCOL if is_ours else None)
    if not is_ours:
        await websocket.close(1002)
        return
    await LiveSession(websocket, state, live, LiveLimits()).run()
