"""A trial run of a definition: the engine itself on pinned outputs, with a clock that jumps and nobody outside."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from auterity_dagster.automatrix.actions.approval import Approval
from auterity_dagster.automatrix.actions.assign_task import AssignTask
from auterity_dagster.automatrix.actions.decide import Decide
from auterity_dagster.automatrix.actions.emit_event import EmitEvent
from auterity_dagster.automatrix.actions.outcome import Done, NotDone, Outcome, StepAction, StepContext
from auterity_dagster.automatrix.actions.wait import WaitFor
from auterity_dagster.automatrix.compiled_workflow import CompiledWorkflow
from auterity_dagster.automatrix.engine import Engine
from auterity_dagster.automatrix.event import Event
from auterity_dagster.automatrix.execution import FINAL, ExecutionState, StepError, StepSucceeded, begin
from auterity_dagster.automatrix.inputs import SendEmailInputs, SendSmsInputs
from auterity_dagster.automatrix.ports import (
    Claim,
    Effect,
    EffectRecord,
    EffectResolved,
    EffectState,
    EventEmitted,
    Snapshot,
    TaskAssigned,
)
from auterity_dagster.automatrix.scope import outputs_of
from auterity_dagster.automatrix.step_path import read_path
from auterity_dagster.automatrix.trial_journal import TrialJournal
from auterity_dagster.automatrix.trigger import envelope, matches, resolved_variables
from auterity_dagster.automatrix.workflow import StepKind
from auterity_dagster.errors import Invalid

TURNS_LIMIT = 500
_OWN: Mapping[StepKind, StepAction] = {
    StepKind.DECIDE: Decide(),
    StepKind.APPROVAL: Approval(),
    StepKind.ASSIGN_TASK: AssignTask(),
    StepKind.WAIT: WaitFor(),
    StepKind.EMIT_EVENT: EmitEvent(),
}
"""Kinds that need nobody outside: they do what they always do, unless they are pinned."""


@dataclass(frozen=True, slots=True)
class TrialOrder:
    """The event that starts it, the settings, and outputs by step id or path; `{"error": {…}}` lets a step fail."""

    event: Event
    settings: Mapping[str, Any]
    pins: Mapping[str, Mapping[str, Any]]
    dealership: str
    time_zone: str


@dataclass(frozen=True, slots=True)
class TrialMessage:
    """What would have been sent."""

    path: str
    channel: str
    contact_id: str
    purpose: str
    text: str
    key: str | None


@dataclass(frozen=True, slots=True)
class TrialReport:
    """What the trial did; `took` is how long it would have waited. `is_triggered` says if the event starts it."""

    is_triggered: bool
    state: ExecutionState
    took: timedelta
    messages: tuple[TrialMessage, ...]
    tasks: tuple[TaskAssigned, ...]
    events: tuple[Event, ...]
    outputs: Mapping[str, object]


class _Clock:
    """Stands still until it is told to jump."""

    def __init__(self, now: datetime) -> None:
        self._now = now

    def now(self) -> datetime:
        return self._now

    def advance(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)

    def jump(self, to: datetime) -> None:
        self._now = max(self._now, to)


@dataclass(frozen=True, slots=True)
class _Pinned:
    """Gives what is pinned for the step, else does it if it can be done with nobody outside."""

    pins: Mapping[str, Mapping[str, Any]]
    inner: StepAction | None
    messages: list[TrialMessage]

    def effect(self, context: StepContext, inputs: Any) -> Effect | None:
        if isinstance(inputs, SendSmsInputs | SendEmailInputs) and context.idempotency_key is not None:
            return Effect(context.idempotency_key, str(context.compiled.step.kind), {})
        return None

    def perform(self, context: StepContext, inputs: Any, record: EffectRecord | None) -> Outcome:
        own = self.pins.get(context.path, self.pins.get(read_path(context.path).step_id))
        pin = context.compiled.step.pin if own is None else own
        if pin is not None:
            return _pinned(context.path, pin)
        if isinstance(inputs, SendSmsInputs | SendEmailInputs):
            return _sent(context, inputs, record, self.messages)
        if self.inner is None:
            kind = context.compiled.step.kind
            return NotDone(StepError("not_pinned", f"{kind} asks somebody outside: pin what it is to give"))
        return self.inner.perform(context, inputs, record)


def try_out(workflow: CompiledWorkflow, order: TrialOrder) -> TrialReport:
    """Run a definition to its end. Waits are over at once, approvals that nobody pinned expire.

    Raises `Invalid` for a pin that belongs to no step, or if it does not end in 500 turns.
    """
    known = {one.step.id for one in workflow.every()}
    unknown = sorted(name for name in order.pins if read_path(name).step_id not in known)
    if unknown:
        raise Invalid(
            f"a pin names {unknown[0]!r}, which is no step; there are {', '.join(sorted(known))}", field="pins"
        )
    clock = _Clock(order.event.time)
    messages: list[TrialMessage] = []
    journal = TrialJournal(_snapshot(workflow, order))
    engine = Engine(
        journal=journal,
        actions={kind: _Pinned(order.pins, _OWN.get(kind), messages) for kind in StepKind},
        clock=clock,
        pause=clock.advance,
        jitter=lambda: 1.0,
        workers=1,
    )
    for _turn in range(TURNS_LIMIT):
        engine.finish(engine.claim(job="trial", lane="interactive", run_id="trial"))
        if journal.snapshot.state.status in FINAL:
            return _report(workflow, order, journal, clock, messages)
        clock.jump(journal.resumes_at or clock.now())
    raise Invalid(f"the trial has not ended in {TURNS_LIMIT} turns")


def _snapshot(workflow: CompiledWorkflow, order: TrialOrder) -> Snapshot:
    event = order.event
    received_at = event.time.astimezone(UTC)
    return Snapshot(
        claim=Claim(event.organization_id, event.id, 1),
        dealership_id=event.dealership_id,
        time_zone=order.time_zone,
        subject=event.subject,
        workflow=workflow,
        state=begin(workflow.definition, deadline_at=received_at + workflow.definition.timeout),
        scope={
            "event": envelope(event),
            "vars": resolved_variables(workflow.definition, order.settings),
            "execution": {"id": str(event.id), "subject": event.subject, "received_at": received_at.isoformat()},
            "organization": {"id": str(event.organization_id)},
            "dealership": {"id": str(event.dealership_id), "name": order.dealership, "time_zone": order.time_zone},
        },
        decisions={},
        arrivals={},
        depth=0,
        parent_id=None,
        root_id=event.id,
    )


def _pinned(path: str, pin: Mapping[str, Any]) -> Outcome:
    error = pin.get("error")
    if not isinstance(error, Mapping):
        return Done(StepSucceeded(path, dict(pin)))
    told = cast("Mapping[str, object]", error)
    return NotDone(StepError(str(told.get("code", "failed")), str(told.get("message", "pinned to fail"))))


def _sent(
    context: StepContext,
    inputs: SendSmsInputs | SendEmailInputs,
    record: EffectRecord | None,
    messages: list[TrialMessage],
) -> Outcome:
    channel = "sms" if context.compiled.step.kind is StepKind.SEND_SMS else "email"
    key = context.idempotency_key
    if record is not None and record.is_new:
        text = inputs.body if isinstance(inputs, SendSmsInputs) else inputs.text
        messages.append(TrialMessage(context.path, channel, str(inputs.contact_id), inputs.purpose, text, key))
    output = {"outcome": "sent", "reason": None, "message_id": f"trial:{key}", "channel": channel}
    resolved = EffectResolved(key or "", EffectState.CONFIRMED, f"trial:{key}")
    return Done(StepSucceeded(context.path, output), entries=(resolved,))


def _report(
    workflow: CompiledWorkflow, order: TrialOrder, journal: TrialJournal, clock: _Clock, messages: list[TrialMessage]
) -> TrialReport:
    return TrialReport(
        is_triggered=matches(workflow, order.event),
        state=journal.snapshot.state,
        took=clock.now() - order.event.time,
        messages=tuple(messages),
        tasks=tuple(one for one in journal.entries if isinstance(one, TaskAssigned)),
        events=tuple(one.event for one in journal.entries if isinstance(one, EventEmitted)),
        outputs=outputs_of(journal.snapshot),
    )
