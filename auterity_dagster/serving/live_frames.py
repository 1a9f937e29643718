"""The frames of the sub-protocol `automatrix.v1`, and which permission a topic needs."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from auterity_dagster.identity.permission import Permission
from auterity_dagster.storage.repositories.outbox_relay import LiveEvent

PROTOCOL = "automatrix.v1"
PAYLOAD_LIMIT = 60_000
"""Characters of a payload; with its envelope a frame stays under 64 KB."""

TOPICS: Mapping[str, Permission] = {
    "executions": Permission.EXECUTION_READ,
    "execution": Permission.EXECUTION_READ,
    "approvals": Permission.APPROVAL_DECIDE,
    "budgets": Permission.BUDGET_READ,
    "leads": Permission.LEAD_MANAGE,
    "inbound": Permission.LEAD_MANAGE,
    "messages": Permission.CONTACT_READ,
    "webhooks": Permission.WEBHOOK_MANAGE,
}
"""The permission by a topic's first part: `execution/{id}` needs that of `execution`."""


class _Frame(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class AuthFrame(_Frame):
    """The first frame: a ticket."""

    type: Literal["auth"]
    ticket: Annotated[str, Field(max_length=200)]


class SubFrame(_Frame):
    """Listen to a topic, beginning after a position; without one, from now on."""

    type: Literal["sub"]
    topic: Annotated[str, Field(max_length=100)]
    after: Annotated[int, Field(ge=0, le=2**62)] | None = None


class UnsubFrame(_Frame):
    """Stop listening."""

    type: Literal["unsub"]
    topic: Annotated[str, Field(max_length=100)]


class PongFrame(_Frame):
    """The answer to a ping."""

    type: Literal["pong"]


ClientFrame = SubFrame | UnsubFrame | PongFrame
CLIENT_FRAME: TypeAdapter[ClientFrame] = TypeAdapter(Annotated[ClientFrame, Field(discriminator="type")])


def permission_of(topic: str) -> Permission | None:
    """Return what a topic needs; None if there is no such topic."""
    return TOPICS.get(topic.partition("/")[0])


def event_frame(event: LiveEvent) -> Mapping[str, Any]:
    """Return the frame of one event; a payload beyond the limit is left to the REST API."""
    is_whole = len(str(event.payload)) <= PAYLOAD_LIMIT
    return {
        "type": "event",
        "topic": event.topic,
        "position": event.position,
        "kind": event.kind,
        "at": event.at.isoformat(),
        "payload": event.payload if is_whole else None,
        "is_whole": is_whole,
    }
