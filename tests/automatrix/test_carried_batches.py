"""A run goes on with further batches; steps that only decide share a transaction, and are told of in their order."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import select

from auterity_dagster.automatrix.engine import LINGER, Engine
from auterity_dagster.automatrix.ports import Entry
from auterity_dagster.storage.repositories.journal import PostgresJournal
from auterity_dagster.storage.repositories.outbox import execution_topic
from auterity_dagster.storage.tables.workflows import ExecutionRow, OutboxRow, StepResultRow
from tests.fakes.workflow_rows import rows_of
from tests.fakes.workflow_world import CEL, Dealership, World, install_workflow, one_step

RULES: Sequence[Any] = [
    {
        "id": f"rule{number}",
        "kind": "decide",
        "with": {"cases": [{"choice": "never", "when": "false"}], "else": f"choice {number}"},
    }
    for number in range(1, 9)
]
CALL = {"id": "call", "kind": "assign_task", "with": {"role": "manager", "title": "Call", "due": "PT1H"}}
STOCK = {"id": "stock", "kind": "inventory_search", "with": {"wanted": []}}
ORDER = [*(one["id"] for one in RULES), "call"]
AN_HOUR = timedelta(hours=1)


class CountingJournal(PostgresJournal):
    """Counts the transactions that change an execution."""

    def __init__(self, world: World) -> None:
        super().__init__(world.database, CEL)
        self.written: list[int] = []

    def begin_step(self, *arguments: Any, before: Sequence[Entry] = (), **named: Any) -> Any:
        self.written.append(len(before) + 1)
        return super().begin_step(*arguments, before=before, **named)

    def write(self, snapshot: Any, entries: Sequence[Entry], **named: Any) -> None:
        self.written.append(len(entries))
        super().write(snapshot, entries, **named)


def carry(world: World, engine: Engine, within: timedelta = AN_HOUR) -> dict[str, int]:
    until = world.clock.now() + within
    return dict(engine.carry_on(job="custom_workflow", lane="interactive", run_id="r", until=until).outcomes)


def test_steps_that_only_decide_share_the_transaction_that_ends_the_turn(world: World, dealership: Dealership) -> None:
    install_workflow(dealership, one_step(*RULES, CALL))
    dealership.lead()
    journal = CountingJournal(world)

    outcomes = carry(world, world.engine(journal=journal))

    assert outcomes == {"succeeded": 1}
    assert len(journal.written) == 1
    steps = rows_of(world, dealership, StepResultRow)
    assert {(row.path, row.state, row.attempt, row.starts) for row in steps} == {
        (path, "succeeded", 1, 1) for path in ORDER
    }
    assert {row.output.get("choice") for row in steps} == {None, *(f"choice {number}" for number in range(1, 9))}


def test_what_was_decided_is_committed_before_a_step_begins_outside(world: World, dealership: Dealership) -> None:
    install_workflow(dealership, one_step(*RULES, STOCK, CALL))
    dealership.lead()
    journal = CountingJournal(world)

    carry(world, world.engine(journal=journal))

    # Eight decisions with the search's beginning, the search's result, the task with the end.
    assert journal.written == [17, 1, 4]


def test_a_listener_hears_the_steps_in_their_order_and_the_end_last(world: World, dealership: Dealership) -> None:
    install_workflow(dealership, one_step(*RULES, CALL))
    (execution_id,) = dealership.lead()

    carry(world, world.engine())

    with world.database.begin(dealership.organization_id) as session:
        own = select(OutboxRow).where(OutboxRow.topic == execution_topic(execution_id))
        told = session.scalars(own.order_by(OutboxRow.created_at, OutboxRow.id)).all()
    assert [row.payload.get("path") for row in told] == [*ORDER, None]
    assert told[-1].payload["state"] == "succeeded"


def test_a_run_takes_batch_after_batch_until_nothing_is_left(world: World, dealership: Dealership) -> None:
    install_workflow(dealership, one_step(CALL))
    for number in range(1, 61):
        dealership.lead_of_another(number)

    assert carry(world, world.engine()) == {"succeeded": 60}


def test_a_run_that_has_nothing_to_do_waits_a_little_for_more(world: World, dealership: Dealership) -> None:
    install_workflow(dealership, one_step(CALL))
    begun = world.clock.now()

    assert carry(world, world.engine()) == {}

    assert LINGER <= world.clock.now() - begun < 2 * LINGER


def test_it_waits_no_longer_than_its_time(world: World, dealership: Dealership) -> None:
    begun = world.clock.now()

    carry(world, world.engine(), within=timedelta(seconds=1))

    assert world.clock.now() - begun < LINGER


def test_it_leaves_its_place_to_another_job_that_has_work(world: World, dealership: Dealership) -> None:
    install_workflow(dealership, "lead_response")
    dealership.lead()
    begun = world.clock.now()

    assert carry(world, world.engine()) == {}

    assert world.clock.now() == begun
    assert {row.state for row in rows_of(world, dealership, ExecutionRow)} == {"queued"}
