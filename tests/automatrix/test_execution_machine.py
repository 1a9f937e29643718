"""The state machine of executions, driven at random: whatever happens, it ends, and final is final."""

from datetime import timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from auterity_dagster.automatrix.execution import (
    FINAL,
    OVER,
    CancelRequested,
    Claimed,
    EndTurn,
    Finished,
    RunStep,
    Status,
    StepAnswered,
    StepError,
    StepFailed,
    StepParked,
    StepRetryScheduled,
    StepSkipped,
    StepStarted,
    StepStatus,
    StepSucceeded,
    apply,
    begin,
    is_last_start,
    next_actions,
)
from auterity_dagster.automatrix.workflow import WorkflowDefinition
from auterity_dagster.errors import Conflict
from tests.fakes.workflow_world import MINUTE, NOON

TASK = {"kind": "assign_task", "with": {"role": "manager", "title": "t", "due": "PT1M"}}
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
            {"id": "d", "needs": ("b", "c"), **TASK},
        ),
    }
)
OOPS = StepError("timeout", "no answer")


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

    @precondition(lambda self: self.state.status is Status.RUNNING and not self.ready())
    @rule()
    def let_go(self) -> None:
        (action,) = next_actions(DEFINITION, self.state, self.now)
        assert isinstance(action, EndTurn)
        self.happen(action.event)

    @rule(minutes=st.integers(1, 10))
    def time_passes(self, minutes: int) -> None:
        self.now += minutes * MINUTE

    @rule(data=st.data())
    def somebody_answers(self, data) -> None:
        waiting = [path for path, step in self.state.steps.items() if step.status is StepStatus.WAITING]
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

    @invariant()
    def nothing_begins_before_what_it_needs(self) -> None:
        for index, step in enumerate(DEFINITION.steps):
            if self.state.steps[step.id].status in (StepStatus.RUNNING, StepStatus.SUCCEEDED, StepStatus.SKIPPED):
                assert all(self.state.steps[need].status in OVER for need in DEFINITION.needs_of(index))

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

    assert isinstance(action, EndTurn)
    assert action.event.error.code == "timeout"  # type: ignore[union-attr]


def test_a_cancelled_execution_ends_before_its_next_action() -> None:
    state = apply(running(), CancelRequested())

    assert state.status is Status.RUNNING
    assert next_actions(DEFINITION, state, NOON) == (EndTurn(CancelRequested()),)


def test_final_refuses_every_event() -> None:
    state = apply(running(), Finished())

    for event in (Claimed(), StepStarted("a", 1), CancelRequested()):
        with pytest.raises(Conflict):
            apply(state, event)
