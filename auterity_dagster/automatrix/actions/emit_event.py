"""`emit_event`: tell other workflows, in the transaction of the step's own result: both or neither."""

import json
from uuid import uuid5

from auterity_dagster.automatrix.actions.outcome import Done, NotDone, Outcome, StepContext
from auterity_dagster.automatrix.event import DEPTH_LIMIT, Event
from auterity_dagster.automatrix.execution import StepError, StepSucceeded
from auterity_dagster.automatrix.inputs import EmitEventInputs
from auterity_dagster.automatrix.ports import Effect, EffectRecord, EventEmitted

SIZE_LIMIT_BYTES = 64 * 1024


class EmitEvent:
    """The event's id and key follow from the step's path in the first execution: a replay's is the same event."""

    def effect(self, context: StepContext, inputs: EmitEventInputs) -> Effect | None:
        return None

    def perform(self, context: StepContext, inputs: EmitEventInputs, record: EffectRecord | None) -> Outcome:
        snapshot = context.snapshot
        if snapshot.depth >= DEPTH_LIMIT:
            reason = f"{DEPTH_LIMIT} executions stand before this one: its event could start them for ever"
            return NotDone(StepError("depth_limit", reason))
        size = len(json.dumps([inputs.data, inputs.findings]))
        if size > SIZE_LIMIT_BYTES:
            reason = f"data and findings have {size} bytes, {SIZE_LIMIT_BYTES} are allowed"
            return NotDone(StepError("invalid_input", reason))
        event = Event(
            id=uuid5(snapshot.root_id, context.path),
            type=inputs.type,
            organization_id=snapshot.claim.organization_id,
            dealership_id=snapshot.dealership_id,
            subject=snapshot.subject,
            time=context.now,
            dedupe_key=f"{snapshot.root_id}:{context.path}",
            data=inputs.data,
            findings=inputs.findings,
            depth=snapshot.depth + 1,
        )
        return Done(StepSucceeded(context.path, {"event_id": str(event.id)}), entries=(EventEmitted(event),))
