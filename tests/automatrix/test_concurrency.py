"""`concurrency` and `on_failure` on real PostgreSQL: nobody waits for ever for a slot, nobody has one too many."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select

from auterity_dagster.storage.tables.workflows import ConcurrencySlotRow, ExecutionRow, StepResultRow, TaskRow
from tests.fakes.workflow_world import Dealership, World, cancel, install_workflow, one_step

DAY_S = 24 * 3600
STAY = {"id": "stay", "kind": "wait", "with": {"for": "P1D", "event": "lead.received", "match": {"kind": "none"}}}
STOCK = {"id": "stock", "kind": "inventory_search", "with": {"wanted": []}}
BAD = {
    "id": "bad", "kind": "assign_task", "with": {"role": "manager", "title": "${{ event.data.nothing }}", "due": "P1D"},
}  # fmt: skip
TELL = {
    "id": "tell", "kind": "assign_task",
    "with": {"role": "manager", "title": "${{ execution.error.code }}, ${{ steps.stock.status }}", "due": "P1D"},
}  # fmt: skip


def limited(on_conflict: str, *steps: Any, limit: int = 1) -> Any:
    policy = {"key": "'contact:' + event.data.contact_id", "limit": limit, "on_conflict": on_conflict}
    return one_step(*(steps or (STAY,)), concurrency=policy)


def rows(world: World, dealership: Dealership, table: Any = ExecutionRow) -> list[Any]:
    with world.database.begin(dealership.organization_id) as session:
        return list(session.scalars(select(table)))


def states(world: World, dealership: Dealership) -> dict[UUID, str]:
    return {row.id: row.state for row in rows(world, dealership)}


def turn(world: World) -> int:
    return world.turn("custom_workflow")


def test_the_second_waits_for_its_turn_and_gets_it_when_the_first_ends(world: World, dealership: Dealership) -> None:
    install_workflow(dealership, limited("queue"))
    (first,) = dealership.lead(1)
    (second,) = dealership.lead(2)
    turn(world)
    assert states(world, dealership) == {first: "waiting", second: "queued"}
    assert turn(world) == 0

    world.clock.advance(DAY_S)
    turn(world)
    turn(world)

    assert states(world, dealership) == {first: "succeeded", second: "waiting"}
    assert [row.execution_id for row in rows(world, dealership, ConcurrencySlotRow)] == [second]
    own = next(row for row in rows(world, dealership) if row.id == second)
    assert own.deadline_at > world.clock.now()


def test_a_slot_that_is_cancelled_goes_on_and_one_that_waits_for_it_can_be_cancelled(
    world: World, dealership: Dealership
) -> None:
    install_workflow(dealership, limited("queue"))
    first, second, third = (dealership.lead(number)[0] for number in range(3))
    turn(world)

    cancel(dealership, second)
    cancel(dealership, first)
    turn(world)

    assert states(world, dealership) == {first: "cancelled", second: "cancelled", third: "waiting"}


def test_one_that_is_skipped_says_who_was_in_its_way(world: World, dealership: Dealership) -> None:
    install_workflow(dealership, limited("skip"))
    (first,) = dealership.lead(1)

    assert dealership.lead(2) == ()

    skipped = next(row for row in rows(world, dealership) if row.id != first)
    assert (skipped.state, skipped.error["code"]) == ("cancelled", "skipped")
    assert str(first) in skipped.error["message"]


def test_joining_hands_the_event_to_the_one_that_is_there(world: World, dealership: Dealership) -> None:
    install_workflow(dealership, limited("join"))
    (first,) = dealership.lead(1)
    turn(world)

    assert dealership.lead(2, comments="one more thing") == ()
    turn(world)

    assert sorted(states(world, dealership).values()) == ["cancelled", "succeeded"]
    (result,) = rows(world, dealership, StepResultRow)
    assert (result.execution_id, result.output["event"]["data"]["comments"]) == (first, "one more thing")


def test_the_newest_replaces_the_one_that_is_there(world: World, dealership: Dealership) -> None:
    install_workflow(dealership, limited("replace"))
    (first,) = dealership.lead(1)
    turn(world)

    (second,) = dealership.lead(2)
    turn(world)

    assert states(world, dealership) == {first: "cancelled", second: "waiting"}


def test_one_that_a_worker_holds_is_replaced_when_the_worker_lets_go(world: World, dealership: Dealership) -> None:
    install_workflow(dealership, limited("replace"))
    (first,) = dealership.lead(1)
    engine = world.engine()
    claims = engine.claim(job="custom_workflow", lane="interactive", run_id="r")

    (second,) = dealership.lead(2)
    assert states(world, dealership) == {first: "running", second: "queued"}
    engine.finish(claims)
    turn(world)

    assert states(world, dealership) == {first: "cancelled", second: "waiting"}


@pytest.mark.parametrize("limit", [1, 3])
def test_at_no_time_more_run_than_allowed_and_none_is_left_behind(
    world: World, dealership: Dealership, limit: int
) -> None:
    most, left_behind = race(world, dealership, limit)

    assert 1 <= most <= limit
    assert left_behind == 0


def race(world: World, dealership: Dealership, limit: int) -> tuple[int, int]:
    """Start and work at once; return the most that ran at a time, and how many were left behind."""
    install_workflow(dealership, limited("queue", STOCK, limit=limit))
    most = 0

    def work() -> None:
        nonlocal most
        for _turn in range(30):
            claims = world.engine().claim(job="custom_workflow", lane="interactive", run_id="r")
            most = max(most, len(rows(world, dealership, ConcurrencySlotRow)))
            world.engine().finish(claims)

    with ThreadPoolExecutor(3) as pool:
        started = pool.submit(lambda: [dealership.lead(number) for number in range(12)])
        workers = [pool.submit(work) for _worker in range(2)]
        assert len(started.result()) == 12
        for worker in workers:
            worker.result()
    while turn(world):
        pass
    return most, sum(state != "succeeded" for state in states(world, dealership).values())


def test_before_it_fails_the_steps_for_that_are_done_once(world: World, dealership: Dealership) -> None:
    install_workflow(dealership, one_step(STOCK, BAD, on_failure=[TELL]))
    dealership.lead()

    turn(world)

    (row,) = rows(world, dealership)
    assert (row.state, row.error["code"]) == ("failed", "invalid_input")
    assert [task.title for task in rows(world, dealership, TaskRow)] == ["invalid_input, succeeded"]


def test_they_are_done_after_the_deadline_too_and_what_waits_is_closed(world: World, dealership: Dealership) -> None:
    stay = {"id": "stay", "kind": "wait", "with": {"event": "never.comes"}}
    install_workflow(dealership, one_step(STOCK, stay, on_failure=[TELL]))
    dealership.lead()
    turn(world)

    world.clock.advance(3 * DAY_S)
    turn(world)

    (row,) = rows(world, dealership)
    assert (row.state, row.error["code"]) == ("failed", "timeout")
    assert {found.path: found.state for found in rows(world, dealership, StepResultRow)} == {
        "stock": "succeeded", "stay": "cancelled", "tell": "succeeded",
    }  # fmt: skip


def test_a_cancelled_execution_does_none_of_them(world: World, dealership: Dealership) -> None:
    install_workflow(dealership, one_step(STAY, on_failure=[BAD]))
    (execution_id,) = dealership.lead()
    turn(world)

    cancel(dealership, execution_id)

    assert turn(world) == 0
    assert rows(world, dealership, TaskRow) == []
