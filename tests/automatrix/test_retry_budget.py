"""A system that is down gets few second calls a minute, nothing is given up for that, and no attempt is used up."""

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from auterity_dagster.automatrix.ports import Message, MessengerFailed, Receipt
from auterity_dagster.automatrix.retry_budget import ALWAYS, SHARE, WINDOW, RetryBudget
from auterity_dagster.storage.tables.workflows import ExecutionRow, StepResultRow
from tests.automatrix.test_send_path import send
from tests.fakes.workflow_rows import rows_of
from tests.fakes.workflow_world import Dealership, World, install_workflow, one_step

START = datetime(2026, 12, 1, tzinfo=UTC)
CUSTOMERS = 30


class Busy:
    """A messenger that is overloaded until it is told to recover; it keeps when each customer was written to."""

    def __init__(self, world: World) -> None:
        self.calls: list[tuple[datetime, str]] = []
        self.is_down = True
        self._world = world
        self._take = world.messenger.send

    def send(self, message: Message, key: str) -> Receipt:
        self.calls.append((self._world.clock.now(), message.address))
        if self.is_down:
            raise MessengerFailed("overloaded", "busy", is_unknown=False)
        return self._take(message, key)

    def retries(self) -> list[datetime]:
        known: set[str] = set()
        again = [at for at, address in self.calls if address in known or known.add(address)]
        return sorted(again)


def most_in_a_minute(times: list[datetime]) -> int:
    return max((sum(at - WINDOW < one <= at for one in times) for at in times), default=0)


def overloaded(world: World, dealership: Dealership) -> Busy:
    """Every customer's lead is to be answered, and the messenger takes nothing."""
    busy = Busy(world)
    world.messenger.send = busy.send  # type: ignore[method-assign]
    install_workflow(dealership, one_step({**send(), "retry": {"max_attempts": 20}}))
    for number in range(1, CUSTOMERS + 1):
        dealership.lead_of_another(number, text="Saturday 10:00?")
    return busy


def turn_often(world: World, engine: Any, minutes: int) -> None:
    for _ in range(minutes * 4):
        world.clock.advance(15)
        world.turn("custom_workflow", engine=engine)


def test_many_failures_at_once_are_few_retries_a_minute_and_all_succeed_in_the_end(
    world: World, dealership: Dealership
) -> None:
    busy = overloaded(world, dealership)
    engine = world.engine()

    turn_often(world, engine, 3)
    busy.is_down = False
    turn_often(world, engine, 8)

    assert len(busy.retries()) > ALWAYS
    assert most_in_a_minute(busy.retries()) <= ALWAYS
    assert {row.state for row in rows_of(world, dealership, ExecutionRow)} == {"succeeded"}
    assert len(world.messenger.sent) == CUSTOMERS
    attempts = [row.attempt for row in rows_of(world, dealership, StepResultRow)]
    assert len(attempts) == len(busy.calls)


def test_without_the_budget_the_same_failures_are_a_storm(
    world: World, dealership: Dealership, monkeypatch: Any
) -> None:
    monkeypatch.setattr(RetryBudget, "take", lambda *_: True)
    busy = overloaded(world, dealership)

    turn_often(world, world.engine(), 1)

    assert most_in_a_minute(busy.retries()) > ALWAYS


@given(st.lists(st.tuples(st.integers(0, 30_000), st.booleans()), max_size=300))
def test_in_no_minute_are_there_more_retries_than_a_tenth_of_its_calls_or_the_free_ones(
    given_events: list[tuple[int, bool]],
) -> None:
    budget, calls, taken, now = RetryBudget(), list[datetime](), list[datetime](), START
    for gap_ms, is_retry in given_events:
        now += timedelta(milliseconds=gap_ms)
        if not is_retry:
            budget.called("crm", now)
            calls.append(now)
            continue
        recent = sum(now - WINDOW < one for one in taken)
        room = max(ALWAYS, sum(now - WINDOW < one for one in calls) // SHARE)
        assert budget.take("crm", now) == (recent < room)
        taken += [now] if recent < room else []


def test_a_busy_system_earns_more_and_no_system_pays_for_another() -> None:
    budget = RetryBudget()
    for _ in range(400):
        budget.called("crm", START)

    assert [budget.take("crm", START) for _ in range(41)] == [True] * 40 + [False]
    assert budget.take("mail", START)
    assert budget.take("crm", START + WINDOW)
