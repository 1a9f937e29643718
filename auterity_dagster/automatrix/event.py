"""What happened at a dealership, as workflows see it: the CloudEvents envelope's meaning without its wire."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Event:
    """One event of one dealership; `data` is JSON and comes from strangers: it is evaluated by nothing.

    `type` is the short name (`lead.received`), `subject` names what it is about (`leads/…`), `time` is when it was
    received. Two events of one organization with the same `dedupe_key` start an execution of a workflow once.
    An execution's own event has as `depth` how many executions stand before it, and as `findings` what its steps found
    out: a model may have written them, so they decide about nobody.
    """

    id: UUID
    type: str
    organization_id: UUID
    dealership_id: UUID
    subject: str
    time: datetime
    dedupe_key: str
    data: Mapping[str, object]
    findings: Mapping[str, object] = field(default_factory=dict[str, object])
    depth: int = 0


DEPTH_LIMIT = 4
"""How many executions may stand before one: an event that starts what emits it again ends there."""
