"""`for_each` on real PostgreSQL: every item once, each with its own waits and keys, whenever workers die."""

from typing import Any

import pytest
from sqlalchemy import select

from auterity_dagster.storage.repositories.journal import PostgresJournal
from auterity_dagster.storage.tables.workflows import ExecutionRow, SideEffectRow, StepResultRow, TaskRow
from tests.fakes.dying_worker import Dying, WorkerDied
from tests.fakes.workflow_world import CEL, Dealership, World, install_workflow, one_step

DAY_S = 24 * 3600
CALL = {
    "id": "call", "kind": "assign_task", "with": {"role": "manager", "title": "Call ${{ person.name }}", "due": "PT5M"},
}  # fmt: skip
SEND = {
    "id": "sms", "kind": "send_sms", "idempotency_key": "execution.id + ':touch'",
    "with": {"contact_id": "${{ event.data.contact_id }}", "purpose": "inquiry_reply", "body": "${{ person.name }}"},
}  # fmt: skip
STAY = {"id": "stay", "kind": "wait", "with": {"for": "P1D"}}


def each(*steps: Any, **more: Any) -> dict[str, Any]:
    return {
        "id": "each", "kind": "for_each", "items": "event.data.people", "as": "person", "max_items": 5,
        "steps": list(steps), **more,
    }  # fmt: skip


def people(*names: str) -> list[dict[str, str]]:
    return [{"name": name} for name in names]


def rows(world: World, dealership: Dealership, table: Any) -> list[Any]:
    with world.database.begin(dealership.organization_id) as session:
        return list(session.scalars(select(table)))


def output(world: World, dealership: Dealership) -> Any:
    (found,) = [row for row in rows(world, dealership, StepResultRow) if row.path == "each"]
    return found.output


def turn(world: World, **parts: Any) -> int:
    return world.turn("custom_workflow", engine=world.engine(**parts))


def test_every_item_has_its_steps_under_its_own_path(world: World, dealership: Dealership) -> None:
    install_workflow(dealership, one_step(each(CALL)))
    dealership.lead(people=people("Ann", "Bob"))

    turn(world)

    tasks = {row.path: row.title for row in rows(world, dealership, TaskRow)}
    assert tasks == {"each[0].call": "Call Ann", "each[1].call": "Call Bob"}
    found = output(world, dealership)
    assert [one["outputs"]["call"]["title"] for one in found["items"]] == ["Call Ann", "Call Bob"]
    assert (found["items"][1]["item"], found["failed"]) == ({"name": "Bob"}, [])


def test_each_item_waits_by_itself_and_is_sent_under_its_own_key(world: World, dealership: Dealership) -> None:
    install_workflow(dealership, one_step(each(SEND, STAY, max_concurrency=2), timeout="P9D"))
    (execution_id,) = dealership.lead(people=people("Ann", "Bob", "Cid"))

    turn(world)
    assert [message.text for _key, message in world.messenger.sent] == ["Ann", "Bob"]
    world.clock.advance(DAY_S)
    turn(world)
    world.clock.advance(DAY_S)
    turn(world)

    assert [key for key, _message in world.messenger.sent] == [
        f"{execution_id}:touch:each[{index}]" for index in range(3)
    ]
    assert [row.state for row in rows(world, dealership, ExecutionRow)] == ["succeeded"]


def test_while_looks_at_the_item_before_and_ends_the_loop(world: World, dealership: Dealership) -> None:
    wish = "previous == null || previous.item.name != 'Bob'"
    install_workflow(dealership, one_step(each(CALL, **{"while": wish})))
    dealership.lead(people=people("Ann", "Bob", "Cid", "Dee"))

    turn(world)

    assert [one["item"]["name"] for one in output(world, dealership)["items"]] == ["Ann", "Bob"]
    assert len(rows(world, dealership, TaskRow)) == 2


def test_an_item_that_fails_is_listed_and_the_others_go_on(world: World, dealership: Dealership) -> None:
    install_workflow(dealership, one_step(each(CALL, SEND)))
    dealership.lead(people=[{"name": "Ann"}, {"nobody": True}, {"name": "Cid"}])

    turn(world)

    found = output(world, dealership)
    assert [(one["index"], one["code"]) for one in found["failed"]] == [(1, "invalid_input")]
    assert found["failed"][0]["message"].startswith("step call: ")
    assert len(world.messenger.sent) == 2


def test_more_items_than_max_items_fail_the_step_and_begin_none(world: World, dealership: Dealership) -> None:
    install_workflow(dealership, one_step(each(CALL)))
    dealership.lead(people=people(*"abcdef"))

    turn(world)

    (row,) = rows(world, dealership, ExecutionRow)
    assert row.error == {"code": "item_limit", "message": "step each: 6 items, max_items is 5"}
    assert rows(world, dealership, TaskRow) == []


@pytest.mark.parametrize("items", [[], "none"])
def test_nothing_to_go_over_is_done_and_what_is_no_list_is_wrong(
    world: World, dealership: Dealership, items: Any
) -> None:
    install_workflow(dealership, one_step(each(CALL)))
    dealership.lead(people=items)

    turn(world)

    (row,) = rows(world, dealership, ExecutionRow)
    assert row.state == ("succeeded" if items == [] else "failed")


@pytest.mark.parametrize("is_before", [True, False])
@pytest.mark.parametrize(("part", "method", "count"), [
    ("journal", "write", 1), ("journal", "write", 2), ("journal", "write", 4), ("journal", "write", 5),
    ("journal", "begin_step", 3), ("messenger", "send", 2),
])  # fmt: skip
def test_a_worker_may_die_in_any_item(
    world: World, dealership: Dealership, part: str, method: str, count: int, is_before: bool
) -> None:
    install_workflow(dealership, one_step(each(CALL, SEND)))
    dealership.lead(people=people("Ann", "Bob", "Cid"))
    inner = PostgresJournal(world.database, CEL) if part == "journal" else world.messenger
    world.messenger.is_repeat_safe = True
    with pytest.raises(WorkerDied):
        turn(world, **{part: Dying(inner, method, is_before, count)})

    world.clock.advance(3600)
    turn(world)

    assert [row.state for row in rows(world, dealership, ExecutionRow)] == ["succeeded"]
    assert sorted(message.text for _key, message in world.messenger.sent) == ["Ann", "Bob", "Cid"]
    assert len(rows(world, dealership, TaskRow)) == len(rows(world, dealership, SideEffectRow)) == 3
