"""`Idempotency-Key`: one call to a provider a key, and the same bytes again for whoever repeats it within a day.

The ledger claims the key in the hold's own commit; here a repeated request is recognised, and its answer is kept.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import orjson
import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from auterity_dagster.errors import Conflict, Invalid, Unavailable
from auterity_dagster.relaycore.chat import ChatRequest, IdempotencyClaim
from auterity_dagster.serving.relaycore.answers import Send
from auterity_dagster.storage.database import Database
from auterity_dagster.storage.repositories import idempotency
from auterity_dagster.storage.repositories.ledger_holding import idempotency_running
from auterity_dagster.storage.sealing import Cell, seal, unseal

HEADER = "idempotency-key"
MAX_KEY_LENGTH = 255
KEPT_BYTES = 4 * 1024 * 1024
"""A longer answer is delivered and not kept: whoever repeats it hears `outcome_unknown`."""

_log = structlog.get_logger(__name__)

Receive = Callable[[], Awaitable[Any]]
Answering = Callable[[Receive, Send], Awaitable[bool]]
"""Sends the answer, whatever it is, and returns whether all of it was sent."""


def claim_of(headers: Mapping[str, str], *, route: str, key_id: UUID, raw: bytes) -> IdempotencyClaim | None:
    """Return what the request claims, or None without the header. Raises `Invalid`."""
    key = headers.get(HEADER)
    if key is None:
        return None
    if not 1 <= len(key) <= MAX_KEY_LENGTH or not key.isascii() or not key.isprintable():
        raise Invalid(f"A key is 1 to {MAX_KEY_LENGTH} printable ASCII characters.", field=HEADER)
    request = hashlib.sha256(f"{route}\n{key_id}\n".encode() + raw)
    return IdempotencyClaim(uuid4(), hashlib.sha256(key.encode()).digest(), request.digest())


class IdempotentAnswers:
    """Answers of requests that carry a key, kept sealed under the organization's own key."""

    def __init__(self, database: Database, *, pepper: bytes) -> None:
        self._database, self._pepper = database, pepper

    async def once(self, request: ChatRequest, claim: IdempotencyClaim, send: Send, answering: Answering) -> None:
        """Send the kept answer, or answer and keep it. A caller that leaves is answered to the end, for its next try.

        Raises `Conflict` while another request with the key runs, or when nobody knows how it ended; `Invalid` for a
        key that came with another request.
        """
        kept = await self._kept(request.caller.organization_id, claim)
        if kept is not None:
            await kept.replay(send)
            return
        recording = _Recording(send)
        is_whole = await answering(_never, recording.send)
        try:
            async with self._database.begin(request.caller.organization_id) as session:
                if is_whole and not recording.is_to_be_retried and recording.size <= KEPT_BYTES:
                    sealed = seal(
                        self._pepper, recording.packed(), cell=_cell(request.caller.organization_id, claim.id)
                    )
                    await idempotency.complete(session, claim, answer=sealed)
                elif recording.is_to_be_retried:
                    await idempotency.release(session, claim)
        except (DBAPIError, PoolTimeout) as error:
            _log.error("idempotent_answer_not_kept", error=type(error).__name__, then="its key stays taken for a day")
        finally:
            await recording.end()

    async def _kept(self, organization_id: UUID, claim: IdempotencyClaim) -> "_Kept | None":
        try:
            async with self._database.begin(organization_id) as session:
                known = await idempotency.find(session, claim.key_digest)
        except (DBAPIError, PoolTimeout) as error:
            raise Unavailable(
                "The record of calls does not answer; no provider was called.", retry_after_s=1
            ) from error
        if known is None:
            return None
        if known.request_digest != claim.request_digest:
            raise Invalid("This Idempotency-Key came with another request.", code="idempotency_mismatch", field=HEADER)
        if known.state == "running":
            raise idempotency_running()
        if known.answer is None:
            raise Conflict(
                "The call with this Idempotency-Key began and nobody knows how it ended; it is not made again.",
                code="outcome_unknown",
            )
        return _unpacked(unseal(self._pepper, known.answer, cell=_cell(organization_id, known.id)))


@dataclass(frozen=True, slots=True)
class _Kept:
    """An answer as it went over the line."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes

    async def replay(self, send: Send) -> None:
        headers = [*self.headers, (b"idempotency-replayed", b"true")]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body})


class _Recording:
    """Passes an answer on and keeps what went by. The last piece waits for `end`: what was heard to its end is kept."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._start: Mapping[str, Any] = {}
        self._parts: list[bytes] = []
        self._last: Any = None
        self.size = 0

    @property
    def is_to_be_retried(self) -> bool:
        """True if the status told the caller to come again: the key is free then."""
        status: int = self._start["status"]
        return status in (409, 429) or status >= 500

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self._start = message
        else:
            part: bytes = message.get("body", b"")
            self.size += len(part)
            if self.size <= KEPT_BYTES:
                self._parts.append(part)
            if not message.get("more_body", False):
                self._last = message
                return
        await self._send(message)

    async def end(self) -> None:
        """Send the last piece."""
        if self._last is not None:
            await self._send(self._last)

    def packed(self) -> bytes:
        """The answer as one piece: a line of JSON with status and headers, then the body."""
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in self._start["headers"]]
        return orjson.dumps([self._start["status"], headers]) + b"\n" + b"".join(self._parts)


def _unpacked(packed: bytes) -> _Kept:
    head, _, body = packed.partition(b"\n")
    status, headers = orjson.loads(head)
    return _Kept(status, [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers], body)


def _cell(organization_id: UUID, row_id: UUID) -> Cell:
    return Cell(organization_id, "idempotency", "answer", row_id)


async def _never() -> Any:
    """What a caller sends who never leaves."""
    await asyncio.Event().wait()
