"""`sub_workflow` on real PostgreSQL: one child for a step, whose end is never missed."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select

from auterity_dagster.automatrix.event import DEPTH_LIMIT
from auterity_dagster.automatrix.publication import compile_document
from auterity_dagster.errors import Conflict
from auterity_dagster.storage.repositories.children import PostgresChildren
from auterity_dagster.storage.repositories.journal import PostgresJournal
from auterity_dagster.storage.repositories.workflow_versions import Publication, publish
from auterity_dagster.storage.tables.workflows import ExecutionRow, StepResultRow
from tests.fakes.dying_worker import Dying, WorkerDied
from tests.fakes.workflow_world import CEL, Dealership, World, cancel, install_workflow, one_step, run_async

STOCK = {"id": "stock", "kind": "inventory_search", "with": {"wanted": []}}
STAY = {"id": "stay", "kind": "wait", "with": {"for": "P1D"}}
CALLED = [{"id": "called", "type": "sub_workflow"}]


def call(workflow: str = "child", mode: str = "await", **more: Any) -> dict[str, Any]:
    inputs = {"workflow": workflow, "mode": mode, "input": {"name": "${{ event.data.customer_name }}"}}
    return {"id": "call", "kind": "sub_workflow", "with": inputs, **more}


def child(*steps: Any, **more: Any) -> Any:
    outputs = {"for": "${{ event.data.name }}", "items": "${{ steps.stock.output.items }}"}
    return one_step(STOCK, *steps, key="child", triggers=CALLED, outputs=outputs, **more)


def rows(world: World, dealership: Dealership, table: Any = ExecutionRow) -> list[Any]:
    with world.database.begin(dealership.organization_id) as session:
        return list(session.scalars(select(table)))


def by_depth(world: World, dealership: Dealership) -> list[Any]:
    return sorted(rows(world, dealership), key=lambda row: row.depth)


def output(world: World, dealership: Dealership) -> Any:
    return next(row.output for row in rows(world, dealership, StepResultRow) if row.path == "call")


def turn(world: World, **parts: Any) -> int:
    return world.turn("custom_workflow", engine=world.engine(**parts))


def until_nothing_moves(world: World) -> None:
    while turn(world):
        pass


def test_the_parent_waits_without_holding_anything_and_gets_what_the_child_gives(
    world: World, dealership: Dealership
) -> None:
    install_workflow(dealership, child(STAY))
    install_workflow(dealership, one_step(call()))
    dealership.lead()
    until_nothing_moves(world)

    parent, own = by_depth(world, dealership)
    assert (parent.state, own.state, own.parent_id) == ("waiting", "waiting", parent.id)
    world.clock.advance(24 * 3600)
    until_nothing_moves(world)

    assert {row.state for row in rows(world, dealership)} == {"succeeded"}
    found = output(world, dealership)
    assert found["execution_id"] == str(own.id)
    assert (found["state"], found["outputs"]["for"]) == ("succeeded", "Marisol Teague")


def test_a_detached_child_is_not_waited_for(world: World, dealership: Dealership) -> None:
    install_workflow(dealership, child(STAY))
    install_workflow(dealership, one_step(call(mode="detach")))
    dealership.lead()

    until_nothing_moves(world)

    assert [row.state for row in by_depth(world, dealership)] == ["succeeded", "waiting"]


def test_a_child_keeps_the_version_that_was_active_when_it_was_called(world: World, dealership: Dealership) -> None:
    first = child(STAY)
    install_workflow(dealership, first)
    install_workflow(dealership, one_step(call()))
    dealership.lead()
    until_nothing_moves(world)
    second = compile_document({**first.document, "steps": [STOCK]}, CEL)
    publication = Publication(second, "custom_workflow", None, "shorter", None)
    run_async(
        dealership.urls,
        dealership.organization_id,
        lambda session: publish(session, dealership.organization_id, publication, now=dealership.clock.now()),
    )

    world.clock.advance(24 * 3600)
    until_nothing_moves(world)

    own = by_depth(world, dealership)[1]
    paths = {row.path for row in rows(world, dealership, StepResultRow) if row.execution_id == own.id}
    assert paths == {"stock", "stay"}


def test_a_child_that_fails_fails_the_step_with_its_reason(world: World, dealership: Dealership) -> None:
    inputs = {"role": "manager", "title": "${{ event.data.no }}", "due": "P1D"}
    bad = {"id": "bad", "kind": "assign_task", "with": inputs}
    install_workflow(dealership, child(bad))
    install_workflow(dealership, one_step(call()))
    dealership.lead()

    until_nothing_moves(world)

    parent, own = by_depth(world, dealership)
    assert own.state == "failed"
    assert parent.error["code"] == "child_failed"
    assert "step bad: " in parent.error["message"]


@pytest.mark.parametrize(
    ("workflow", "problem"), [("nobody", "no active workflow 'nobody'"), ("own", "it has no trigger of type sub_wo")]
)
def test_what_cannot_be_called_fails_the_step(
    world: World, dealership: Dealership, workflow: str, problem: str
) -> None:
    install_workflow(dealership, one_step(call(workflow)))
    dealership.lead()

    until_nothing_moves(world)

    (row,) = rows(world, dealership)
    assert row.error["code"] == "invalid_input"
    assert problem in row.error["message"]


def test_a_workflow_that_calls_itself_ends(world: World, dealership: Dealership) -> None:
    triggers = [*CALLED, {"id": "t", "type": "event", "event": "lead.received"}]
    install_workflow(dealership, one_step({**call(), "with": {"workflow": "own"}}, triggers=triggers))
    dealership.lead()

    until_nothing_moves(world)

    found = by_depth(world, dealership)
    assert len(found) == DEPTH_LIMIT + 1
    assert found[-1].error["code"] == "depth_limit"
    assert {row.error["code"] for row in found[:-1]} == {"child_failed"}


@pytest.mark.parametrize("is_before", [True, False])
@pytest.mark.parametrize(("part", "method", "count"), [
    ("journal", "begin_step", 1), ("children", "start", 1), ("journal", "write", 1), ("journal", "write", 2),
])  # fmt: skip
def test_whenever_a_worker_dies_there_is_one_child_and_its_end_is_heard(
    world: World, dealership: Dealership, part: str, method: str, count: int, is_before: bool
) -> None:
    install_workflow(dealership, child())
    install_workflow(dealership, one_step(call()))
    dealership.lead()
    parts = {"journal": PostgresJournal(world.database, CEL), "children": PostgresChildren(world.database)}
    with pytest.raises(WorkerDied):
        turn(world, **{part: Dying(parts[part], method, is_before, count)})

    world.clock.advance(3600)
    until_nothing_moves(world)
    world.clock.advance(3600)
    until_nothing_moves(world)

    assert [row.state for row in by_depth(world, dealership)] == ["succeeded", "succeeded"]


def test_cancelling_ends_the_children_that_are_waited_for_and_no_other(world: World, dealership: Dealership) -> None:
    grandchild = one_step(STAY, key="deeper", triggers=CALLED)
    install_workflow(dealership, grandchild)
    install_workflow(dealership, child({"id": "inner", "kind": "sub_workflow", "with": {"workflow": "deeper"}}))
    aside = call("deeper", mode="detach", id="aside", needs=[])
    install_workflow(dealership, one_step(call(), aside))
    (execution_id,) = dealership.lead()
    until_nothing_moves(world)

    assert cancel(dealership, execution_id) == "cancelled"

    states = {(row.parent_path, row.state) for row in rows(world, dealership)}
    assert states == {(None, "cancelled"), ("call", "cancelled"), ("inner", "cancelled"), ("aside", "waiting")}


def test_a_child_that_a_person_cancels_is_heard_as_failed(world: World, dealership: Dealership) -> None:
    install_workflow(dealership, child(STAY))
    install_workflow(dealership, one_step(call(on_error="continue")))
    dealership.lead()
    until_nothing_moves(world)
    _parent, own = by_depth(world, dealership)

    cancel(dealership, own.id)
    until_nothing_moves(world)

    assert [row.state for row in by_depth(world, dealership)] == ["succeeded", "cancelled"]


def test_parents_and_children_that_end_at_the_same_time_do_not_block_each_other(
    world: World, dealership: Dealership
) -> None:
    install_workflow(dealership, child(STAY))
    install_workflow(dealership, one_step(call()))
    parents = [dealership.lead(number)[0] for number in range(12)]
    until_nothing_moves(world)
    world.clock.advance(24 * 3600)

    with ThreadPoolExecutor(2) as pool:
        working = pool.submit(until_nothing_moves, world)
        cancelling = [pool.submit(cancel_if_open, dealership, one) for one in parents]
        working.result()
        assert [one.result() for one in cancelling] == [None] * 12
    world.clock.advance(3600)
    until_nothing_moves(world)

    assert {row.state for row in rows(world, dealership)} <= {"succeeded", "cancelled"}


def cancel_if_open(dealership: Dealership, execution_id: UUID) -> None:
    with suppress(Conflict):
        cancel(dealership, execution_id)
