"""One live connection: it reads rows after its cursors at its own pace, so nothing queues up and nothing is missed."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from pydantic import ValidationError
from starlette.websockets import WebSocket, WebSocketDisconnect

from auterity_dagster.background import end_tasks
from auterity_dagster.errors import NotAuthenticated
from auterity_dagster.identity.principal import Principal
from auterity_dagster.serving.api.state import ApiState
from auterity_dagster.serving.delivery import OUTAGES
from auterity_dagster.serving.live_events import Head, LiveEvents
from auterity_dagster.serving.live_frames import (
    CLIENT_FRAME,
    AuthFrame,
    PongFrame,
    SubFrame,
    UnsubFrame,
    event_frame,
    permission_of,
)
from auterity_dagster.storage.repositories import live_tickets, outbox_relay, users
from auterity_dagster.storage.repositories.outbox_relay import LiveEvent

UNAUTHENTICATED, TOO_LARGE, TRY_AGAIN, SILENT, SLOW = 4401, 1009, 1013, 4408, 4429
FRAME_LIMIT_BYTES = 16 * 1024
TOPIC_LIMIT = 50
BATCH = 200


@dataclass(frozen=True, slots=True)
class LiveLimits:
    """How long a connection may take."""

    auth_s: float = 5.0
    ping_s: float = 20.0
    send_s: float = 10.0
    rights_s: float = 5.0


class Closed(Exception):
    """The connection ends with this code."""

    def __init__(self, code: int) -> None:
        super().__init__(str(code))
        self.code = code


@dataclass(slots=True, eq=False)
class Subscription:
    """One listening to a topic; `cursor` is the last position that was sent or passed over."""

    cursor: int


@dataclass(slots=True)
class LiveSession:
    """A connection after its handshake, with what it listens to by topic."""

    websocket: WebSocket
    state: ApiState
    live: LiveEvents
    limits: LiveLimits
    subscriptions: dict[str, Subscription] = field(default_factory=dict[str, Subscription])
    unanswered_pings: int = 0
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """Serve until either side ends it."""
        try:
            organization_id, user_id = await self._authenticated()
            await self._send({"type": "ready"})
            async with self.live.watching(organization_id) as head:
                await self._serve(organization_id, user_id, head)
        except WebSocketDisconnect:
            return
        except Closed as closed:
            await self.websocket.close(closed.code)
        except OUTAGES:
            await self.websocket.close(TRY_AGAIN)

    async def _serve(self, organization_id: UUID, user_id: UUID, head: Head) -> None:
        works = (
            asyncio.create_task(self._receive(organization_id, user_id)),
            asyncio.create_task(self._publish(organization_id, user_id, head)),
            asyncio.create_task(self._ping()),
        )
        try:
            done, _ = await asyncio.wait(works, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await end_tasks(works)
        for work in done:
            work.result()

    async def _authenticated(self) -> tuple[UUID, UUID]:
        try:
            async with asyncio.timeout(self.limits.auth_s):
                text = await self._text()
            presented = live_tickets.read(AuthFrame.model_validate_json(text).ticket)
            async with self.state.database.begin(presented.organization_id) as session:
                user_id = await live_tickets.redeem(
                    session, presented, origin=self.websocket.headers.get("origin"), now=self.state.clock.now()
                )
        except (TimeoutError, ValidationError, NotAuthenticated) as error:
            raise Closed(UNAUTHENTICATED) from error
        return presented.organization_id, user_id

    async def _receive(self, organization_id: UUID, user_id: UUID) -> None:
        while True:
            text = await self._text()
            try:
                frame = CLIENT_FRAME.validate_json(text)
            except ValidationError:
                await self._send({"type": "error", "code": "invalid_frame"})
                continue
            match frame:
                case PongFrame():
                    self.unanswered_pings = 0
                case UnsubFrame():
                    self.subscriptions.pop(frame.topic, None)
                case SubFrame():
                    await self._subscribe(organization_id, frame, await self._principal(organization_id, user_id))

    async def _subscribe(self, organization_id: UUID, frame: SubFrame, principal: Principal) -> None:
        refused = self._refusal(frame.topic, principal)
        if refused is not None:
            await self._send({"type": "error", "code": refused, "topic": frame.topic})
            return
        async with self.state.database.begin(organization_id) as session:
            head = await outbox_relay.head(session)
            oldest = await outbox_relay.oldest(session) or head + 1
        cursor = head if frame.after is None else frame.after
        await self._send({"type": "subd", "topic": frame.topic, "head": head})
        # Rows that were deleted, or a cursor of another database's life: the client fetches afresh from here.
        if cursor + 1 < oldest or cursor > head:
            resumed = oldest - 1 if cursor + 1 < oldest else head
            await self._send({"type": "gap", "topic": frame.topic, "from": cursor + 1, "to": resumed})
            cursor = resumed
        self.subscriptions[frame.topic] = Subscription(cursor)
        self._changed.set()

    def _refusal(self, topic: str, principal: Principal) -> str | None:
        permission = permission_of(topic)
        if permission is None:
            return "unknown_topic"
        if not principal.may(permission):
            return "not_permitted"
        is_full = topic not in self.subscriptions and len(self.subscriptions) >= TOPIC_LIMIT
        return "too_many_topics" if is_full else None

    async def _publish(self, organization_id: UUID, user_id: UUID, head: Head) -> None:
        loop = asyncio.get_running_loop()
        principal, read_at = await self._principal(organization_id, user_id), loop.time()
        while True:
            self._changed.clear()
            seen = head.position
            while batch := await self._next(organization_id, head):
                if loop.time() - read_at > self.limits.rights_s:
                    principal, read_at = await self._principal(organization_id, user_id), loop.time()
                for event, subscription in batch:
                    await self._show(event, subscription, principal)
            await _either(head.beyond(seen), self._changed.wait())

    async def _next(self, organization_id: UUID, head: Head) -> list[tuple[LiveEvent, Subscription]]:
        listening, seen = dict(self.subscriptions), head.position
        cursors = {topic: subscription.cursor for topic, subscription in listening.items()}
        events = head.after(cursors, limit=BATCH)
        if events is None:
            async with self.state.database.begin(organization_id) as session:
                events = await outbox_relay.after(session, cursors, limit=BATCH)
        if not events:
            # Whoever is up to date is so up to the head: its next look needs no database.
            for subscription in listening.values():
                subscription.cursor = max(subscription.cursor, seen)
        return [(event, listening[event.topic]) for event in events]

    async def _show(self, event: LiveEvent, subscription: Subscription, principal: Principal) -> None:
        """Send one event if it may be seen; the cursor moves in either case.

        A client that subscribed to the topic again meanwhile has another cursor: this batch is none of its own.
        """
        if self.subscriptions.get(event.topic) is not subscription:
            return
        permission = permission_of(event.topic)
        if permission is None or not principal.may(permission):
            del self.subscriptions[event.topic]
            await self._send({"type": "revoked", "topic": event.topic})
            return
        if _may_see(principal, event.payload):
            await self._send(event_frame(event))
        subscription.cursor = event.position

    async def _principal(self, organization_id: UUID, user_id: UUID) -> Principal:
        async with self.state.database.begin(organization_id) as session:
            user = await users.find_active(session, user_id)
        if user is None:
            raise Closed(UNAUTHENTICATED)
        return user.principal

    async def _ping(self) -> None:
        while True:
            await asyncio.sleep(self.limits.ping_s)
            if self.unanswered_pings >= 2:
                raise Closed(SILENT)
            self.unanswered_pings += 1
            await self._send({"type": "ping"})

    async def _text(self) -> str:
        text = await self.websocket.receive_text()
        if len(text.encode()) > FRAME_LIMIT_BYTES:
            raise Closed(TOO_LARGE)
        return text

    async def _send(self, frame: Mapping[str, Any]) -> None:
        try:
            async with asyncio.timeout(self.limits.send_s):
                await self.websocket.send_json(frame)
        except TimeoutError as error:
            raise Closed(SLOW) from error


def _may_see(principal: Principal, payload: Mapping[str, Any]) -> bool:
    dealership_id = payload.get("dealership_id")
    return not isinstance(dealership_id, str) or principal.may_see(UUID(dealership_id))


async def _either(*waits: Any) -> None:
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await end_tasks(tasks)
