"""The state machine of executions, driven at random: whatever happens, it ends, and final is final."""

from datetime import timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from auterity_dagster.automatrix.execution import (
    EXECUTION_ATTEMPTS_LIMIT,
    FINAL,
    OVER,
    CancelRequested,
    Claimed,
    ExecutionState,
    Finished,
    LoopEnded,
    Status,
    StepAnswered,
    StepError,
    StepExpanded,
    StepFailed,
    StepParked,
    StepRetryScheduled,
    StepSkipped,
    StepStarted,
    StepState,
    StepStatus,
    StepSucceeded,
    begin,
)
from auterity_dagster.automatrix.next_action import (
    EndTurn,
    HandleFailure,
    RunStep,
    is_item_begun,
    is_last_start,
    next_actions,
)
from auterity_dagster.automatrix.step_path import item_path, read_path
from auterity_dagster.automatrix.transition import apply
from auterity_dagster.automatrix.workflow import WorkflowDefinition, needs_of
from auterity_dagster.errors import Conflict
from tests.fakes.workflow_world import MINUTE, NOON

TASK = {"kind": "assign_task", "with": {"role": "manager", "title": "t", "due": "PT1M"}}
LOOP = {"kind": "for_each", "items": "event.data.vehicles", "as": "vehicle", "max_items": 4}
DEFINITION = WorkflowDefinition.model_validate(
    {
        "api_version": "automatrix/v1",
        "key": "machine",
        "name": "Machine",
        "triggers": ({"id": "t", "type": "event", "event": "lead.received"},),
        "steps": (
            {"id": "a", **TASK},
            {"id": "b", "on_error": "continue", "needs": ("a",), **TASK},
            {"id": "c", "needs": ("a",), **TASK},
            {
                "id": "loop", "needs": ("a",), "max_concurrency": 2, **LOOP,
                "steps": (
                    {"id": "x", **TASK}, {"id": "y", "on_error": "continue", **TASK}, {"id": "z", "needs": (), **TASK},
                ),
            },
            {"id": "d", "needs": ("b", "c", "loop"), **TASK},
        ),
        "on_failure": ({"id": "f", **TASK}, {"id": "g", **TASK}),
    }
)  # fmt: skip
OOPS = StepError("timeout", "no answer")
BODY = ("x", "y", "z")
LOOP_STEP = DEFINITION.steps[3]


def items_of(state: ExecutionState) -> int:
    return len(state.steps["loop"].items or ())


def open_items(state: ExecutionState) -> int:
    """Items that have begun and are neither over nor failed."""
    count = 0
    for index in range(items_of(state)):
        steps = [state.steps[item_path("loop", index, one)] for one in BODY]
        is_failed = StepStatus.FAILED in (steps[0].status, steps[2].status)
        is_over = all(step.status in OVER for step in steps) or is_failed
        count += is_item_begun(LOOP_STEP, state, index) and not is_over
    return count


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = NOON
        self.state = begin(DEFINITION, deadline_at=NOON + timedelta(days=3))
        self.history = [self.state]

    def happen(self, event) -> None:
        self.state = apply(self.state, event)
        self.history.append(self.state)

    def ready(self) -> list[str]:
        return [one.path for one in next_actions(DEFINITION, self.state, self.now) if isinstance(one, RunStep)]

    @precondition(lambda self: self.state.status in (Status.QUEUED, Status.WAITING))
    @rule()
    def claim(self) -> None:
        self.happen(Claimed())

    @precondition(lambda self: self.state.status is Status.RUNNING and self.ready())
    @rule(data=st.data(), outcome=st.sampled_from(["done", "failed", "retry", "parked", "skipped", "died"]))
    def work(self, data, outcome: str) -> None:
        path = data.draw(st.sampled_from(self.ready()))
        step = self.state.steps[path]
        if path == "loop":
            return self.go_over(data, step)
        if step.status is StepStatus.WAITING:
            return self.happen(StepSucceeded(path, {}))
        if outcome == "skipped" and step.status is StepStatus.PENDING:
            return self.happen(StepSkipped(path))
        again = step.status is StepStatus.RUNNING
        self.happen(StepStarted(path, step.attempt if again else step.attempt + 1))
        if outcome == "done":
            self.happen(StepSucceeded(path, {}))
        elif outcome == "failed":
            self.happen(StepFailed(path, OOPS))
        elif outcome == "retry":
            self.happen(StepRetryScheduled(path, OOPS, self.now + MINUTE))
        elif outcome == "parked":
            self.happen(StepParked(path, self.now + 5 * MINUTE))

    def go_over(self, data, step: StepState) -> None:
        if step.items is not None:
            return self.happen(StepSucceeded("loop", {}))
        again = step.status is StepStatus.RUNNING
        self.happen(StepStarted("loop", step.attempt if again else step.attempt + 1))
        count = data.draw(st.integers(0, 4))
        self.happen(StepExpanded("loop", tuple(range(count)), BODY))

    @precondition(lambda self: self.state.status is Status.RUNNING and items_of(self.state) > 0 and bool(self.ready()))
    @rule(data=st.data())
    def while_is_false(self, data) -> None:
        begun = [index for index in range(items_of(self.state)) if is_item_begun(LOOP_STEP, self.state, index)]
        first = max(begun, default=-1) + 1
        if self.state.steps["loop"].status not in OVER and first < items_of(self.state):
            self.happen(LoopEnded("loop", data.draw(st.integers(first, items_of(self.state) - 1))))

    @precondition(lambda self: self.state.status is Status.RUNNING and not self.ready())
    @rule()
    def let_go(self) -> None:
        (action,) = next_actions(DEFINITION, self.state, self.now)
        assert isinstance(action, EndTurn | HandleFailure)
        self.happen(action.event)

    @rule(minutes=st.integers(1, 10))
    def time_passes(self, minutes: int) -> None:
        self.now += minutes * MINUTE

    @rule(data=st.data())
    def somebody_answers(self, data) -> None:
        steps = self.state.steps.items()
        waiting = [path for path, step in steps if step.status is StepStatus.WAITING and step.items is None]
        if waiting and self.state.status not in FINAL:
            self.happen(StepAnswered(data.draw(st.sampled_from(waiting))))

    @precondition(lambda self: self.state.status not in FINAL)
    @rule(chance=st.integers(0, 9))
    def somebody_cancels(self, chance: int) -> None:
        if chance == 0:
            self.happen(CancelRequested())

    @invariant()
    def is_never_stuck(self) -> None:
        assert self.state.error is None or self.state.error.code != "engine_stuck"
        if self.state.status is Status.RUNNING:
            assert next_actions(DEFINITION, self.state, self.now)

    @invariant()
    def what_is_final_stays(self) -> None:
        if len(self.history) > 1:
            before, after = self.history[-2:]
            assert before.status not in FINAL
            for path, step in before.steps.items():
                assert step.status not in OVER or after.steps[path] == step
                assert path in after.steps or not step.is_begun

    @invariant()
    def nothing_begins_before_what_it_needs(self) -> None:
        for path, found in self.state.steps.items():
            if found.status not in (StepStatus.RUNNING, StepStatus.SUCCEEDED, StepStatus.SKIPPED):
                continue
            place = read_path(path)
            siblings = LOOP_STEP.steps if place.index is not None else DEFINITION.steps
            if path in ("f", "g"):
                siblings = DEFINITION.on_failure
            position = [one.id for one in siblings].index(place.step_id)
            for need in needs_of(siblings, position):
                other = need if place.index is None else item_path("loop", place.index, need)
                assert self.state.steps[other].status in OVER

    @invariant()
    def no_more_items_are_open_than_allowed(self) -> None:
        assert open_items(self.state) <= LOOP_STEP.max_concurrency

    @invariant()
    def a_loop_that_is_over_leaves_no_item_open(self) -> None:
        if self.state.steps["loop"].status in OVER:
            assert all(step.status in OVER for path, step in self.state.steps.items() if read_path(path).loop)

    @invariant()
    def before_it_fails_only_the_steps_for_that_are_left(self) -> None:
        if self.state.error is not None:
            assert all(step.status in OVER for path, step in self.state.steps.items() if path not in ("f", "g"))
            assert self.state.status is not Status.SUCCEEDED
        if self.state.status is Status.FAILED and self.now < self.state.deadline_at:
            assert {"f", "g"} <= set(self.state.steps)

    @invariant()
    def an_end_leaves_nothing_open(self) -> None:
        if self.state.status in FINAL:
            assert all(step.status in OVER for step in self.state.steps.values())
            assert next_actions(DEFINITION, self.state, self.now) == ()


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def running():
    return apply(begin(DEFINITION, deadline_at=NOON + MINUTE), Claimed())


def test_a_step_that_a_dead_worker_left_begins_again_under_the_same_attempt() -> None:
    state = apply(running(), StepStarted("a", 1))

    assert next_actions(DEFINITION, state, NOON) == (RunStep("a"),)
    assert apply(state, StepStarted("a", 1)).steps["a"].starts == 2


def test_a_step_that_killed_three_workers_is_not_begun_again() -> None:
    state = running()
    for _death in range(3):
        assert not is_last_start(state.steps["a"])
        state = apply(state, StepStarted("a", 1))

    assert is_last_start(state.steps["a"])


def test_the_deadline_ends_the_execution_before_anything_else_begins() -> None:
    (action,) = next_actions(DEFINITION, running(), NOON + MINUTE)

    assert isinstance(action, HandleFailure)
    assert action.event.error.code == "timeout"


def test_a_cancelled_execution_ends_before_its_next_action() -> None:
    state = apply(running(), CancelRequested())

    assert state.status is Status.RUNNING
    assert next_actions(DEFINITION, state, NOON) == (EndTurn(CancelRequested()),)


def test_final_refuses_every_event() -> None:
    state = apply(running(), Finished())

    for event in (Claimed(), StepStarted("a", 1), CancelRequested()):
        with pytest.raises(Conflict):
            apply(state, event)


def expanded(*items: object) -> ExecutionState:
    state = apply(running(), StepStarted("a", 1))
    state = apply(apply(state, StepSucceeded("a", {})), StepStarted("loop", 1))
    return apply(state, StepExpanded("loop", items, BODY))


def looped(state: ExecutionState) -> list[str]:
    actions = next_actions(DEFINITION, state, NOON)
    return [one.path for one in actions if isinstance(one, RunStep) and one.path.startswith("loop")]


def test_an_item_that_fails_leaves_the_others_alone_and_ends_itself() -> None:
    state = expanded("one", "two", "three")
    state = apply(apply(state, StepStarted("loop[0].x", 1)), StepFailed("loop[0].x", OOPS))

    assert looped(state) == ["loop[1].x", "loop[1].z", "loop[2].x", "loop[2].z"]


def test_a_loop_over_nothing_is_over_at_once() -> None:
    assert looped(expanded()) == ["loop"]


def test_more_items_than_allowed_at_once_wait_for_their_turn() -> None:
    assert looped(expanded(*range(4))) == ["loop[0].x", "loop[0].z", "loop[1].x", "loop[1].z"]


def test_an_execution_that_has_used_its_attempts_begins_nothing_more() -> None:
    state = running()
    steps = {**state.steps, "a": StepState(attempt=EXECUTION_ATTEMPTS_LIMIT, retry_at=NOON)}

    (action,) = next_actions(DEFINITION, ExecutionState(state.status, steps, state.deadline_at), NOON)

    assert isinstance(action, HandleFailure)
    assert action.event.error.code == "attempts_limit"
