"""The seam between callers' wires and the gateway: a wire reads bodies and writes answers, all else is shared."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, cast
from uuid import UUID

import orjson

from auterity_dagster.errors import AuterityError, Invalid
from auterity_dagster.relaycore.answer import Answer
from auterity_dagster.relaycore.chat import ChatRequest, Kind, ProviderAnswer, StreamFrame, WireName
from auterity_dagster.serving.json_depth import is_deeper
from auterity_dagster.serving.relaycore.wire_errors import WireError

Body = Mapping[str, Any]
DEPTH_LIMIT = 32


@dataclass(frozen=True, slots=True)
class Content:
    """What a body says that routing looks at, and `body`: the same on a wire that providers speak.

    `messages` is how many there are; `image_bytes` is how much of the body's size are pictures written out, which
    count by `images` and not by their bytes. `labels` are the caller's own `metadata`. The other fields are those of
    `ChatRequest`.
    """

    body: Body
    wire: WireName
    model: str
    messages: int
    max_tokens: int | None
    is_stream: bool
    has_tools: bool
    needs_json: bool
    images: int = 0
    image_bytes: int = 0
    kind: Kind = "chat"
    untranslatable: tuple[str, ...] = ()
    droppable: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class Asked:
    """A request: what routing sees, what a provider gets, and the body as its caller wrote it."""

    request: ChatRequest
    body: Body
    written: Body


class Wire(Protocol):
    """A family of callers: how they write requests, and how they want answers, streams and errors written."""

    def read(self, written: Body) -> Content:
        """Return what the body says. Raises `Invalid` naming the field, never with a part of what was sent."""
        ...

    def whole(self, asked: Asked, answer: Answer, given: ProviderAnswer) -> bytes:
        """Return a whole answer's body."""
        ...

    def events(self, asked: Asked, answer: Answer, frames: AsyncIterator[StreamFrame | None]) -> AsyncIterator[bytes]:
        """Yield a stream's events as they go over the line; `frames` yields None where a heartbeat is due.

        The end is written only after the provider's. Where `frames` raises `ProviderFailed` an error event is last.
        """
        ...

    def error(self, error: AuterityError, *, request_id: UUID | None) -> WireError:
        """Return the answer to a request that failed before anything was sent."""
        ...


def read_body(raw: bytes) -> Body:
    """Parse a body. Raises `Invalid`, never with a part of what was sent."""
    try:
        body: object = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise Invalid("The body is not JSON.", code="invalid_json") from error
    if not isinstance(body, dict):
        raise Invalid("The body is not a JSON object.", code="invalid_json")
    if is_deeper(cast(object, body), DEPTH_LIMIT):
        raise Invalid(f"The body is nested more than {DEPTH_LIMIT} deep.", code="invalid_json")
    return cast(Body, body)
