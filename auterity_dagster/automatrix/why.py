"""Why an execution stands where it stands, and what a person can do about it: sentences made from its records. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from auterity_dagster.automatrix.execution import Status, StepError

Waiting = Literal["approval", "event", "time", "execution", "slot", "retry", "worker"]


@dataclass(frozen=True, slots=True)
class FailedStep:
    """A step whose last attempt failed."""

    path: str
    attempts: int
    error: StepError


@dataclass(frozen=True, slots=True)
class Awaited:
    """Something that an execution waits for: `what` names it, `until` is None if nothing ends it but itself."""

    kind: Waiting
    path: str | None
    what: str
    until: datetime | None


@dataclass(frozen=True, slots=True)
class Facts:
    """What is recorded about an execution; `unknown_effects` are the paths of messages that may have been sent."""

    state: Status
    error: StepError | None
    is_cancel_requested: bool
    failed: tuple[FailedStep, ...]
    awaited: tuple[Awaited, ...]
    unknown_effects: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """One sentence, what stands behind it, and what can be done."""

    summary: str
    failed: tuple[FailedStep, ...]
    awaited: tuple[Awaited, ...]
    actions: tuple[str, ...]


def explain(facts: Facts) -> Explanation:
    """Return the explanation of an execution."""
    return Explanation(_summary(facts), facts.failed, facts.awaited, tuple(_actions(facts)))


def _summary(facts: Facts) -> str:
    if facts.state in (Status.FAILED, Status.CANCELLED) and facts.error is not None:
        return f"It has {_ended(facts.state)}: {facts.error.message} ({facts.error.code})."
    if facts.state is Status.CANCELLED:
        return "Somebody cancelled it, or the execution that had started it ended."
    if facts.state is Status.SUCCEEDED:
        return "It has succeeded."
    if facts.is_cancel_requested:
        return "It is being cancelled: the worker that holds it ends it before its next action."
    if facts.error is not None:
        return f"It is about to fail, the steps for that come first: {facts.error.message} ({facts.error.code})."
    if facts.awaited:
        return f"It waits for {'; for '.join(one.what for one in facts.awaited)}."
    return "A worker holds it." if facts.state is Status.RUNNING else "It is ready: the next run of its job takes it."


def _ended(state: Status) -> str:
    return "failed" if state is Status.FAILED else "been cancelled"


def _actions(facts: Facts) -> Iterable[str]:
    for path in facts.unknown_effects:
        yield f"Find out whether the message of step {path} was sent, before anything is replayed."
    if facts.state in (Status.FAILED, Status.CANCELLED):
        start = next((one.path for one in facts.failed), None)
        yield f"Replay it{f' from step {start}' if start else ''}; what was sent is not sent again."
        return
    for one in facts.awaited:
        if one.kind == "approval":
            yield f"Decide the approval of step {one.path}."
        if one.kind == "slot":
            yield "Cancel the execution that holds its concurrency key, or wait for its end."
    if facts.state is not Status.SUCCEEDED:
        yield "Cancel it."
