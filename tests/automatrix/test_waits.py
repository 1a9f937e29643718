"""`wait` and `emit_event` on real PostgreSQL: nothing is held, one thing ends a wait, an event happens once."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import select

from auterity_dagster.automatrix.event import DEPTH_LIMIT, Event
from auterity_dagster.automatrix.execution import Parked
from auterity_dagster.automatrix.ports import Entry, WaitElapsed
from auterity_dagster.automatrix.waiting import local_instant
from auterity_dagster.errors import Invalid
from auterity_dagster.storage.repositories.events import Delivered, deliver_blocking
from auterity_dagster.storage.repositories.journal import PostgresJournal
from auterity_dagster.storage.tables.workflows import ExecutionRow, StepResultRow, WaitRow
from tests.fakes.dying_worker import Dying, WorkerDied
from tests.fakes.workflow_world import (
    CEL,
    CONTACT,
    MINUTE,
    Dealership,
    World,
    install_workflow,
    new_dealership,
    one_step,
)

HOUR_S = 3600
OTHER = str(uuid4())
REPLY = {
    "id": "reply", "kind": "wait",
    "with": {"for": "PT4H", "event": "message.received", "match": {"contact_id": "${{ event.data.contact_id }}"}},
}  # fmt: skip
EMIT = {
    "id": "tell", "kind": "emit_event",
    "with": {
        "type": "appointment.proposed", "data": {"contact_id": "${{ event.data.contact_id }}"},
        "findings": {"outcome": "${{ steps.stock.status }}"},
    },
}  # fmt: skip
STOCK = {"id": "stock", "kind": "inventory_search", "with": {"wanted": []}}


def message(dealership: Dealership, contact_id: str = str(CONTACT), kind: str = "message.received") -> Event:
    return Event(
        id=uuid4(), type=kind, organization_id=dealership.organization_id, dealership_id=dealership.dealership_id,
        subject="messages/1", time=dealership.clock.now(), dedupe_key=uuid4().hex,
        data={"contact_id": contact_id, "text": "yes"},
    )  # fmt: skip


def happens(world: World, event: Event) -> Delivered:
    with world.database.begin(event.organization_id) as session:
        return deliver_blocking(session, event)


def rows(world: World, dealership: Dealership, table: Any) -> list[Any]:
    with world.database.begin(dealership.organization_id) as session:
        return list(session.scalars(select(table)))


def turn(world: World, **parts: Any) -> int:
    return world.turn("custom_workflow", engine=world.engine(**parts))


def outcome(world: World, dealership: Dealership, path: str = "reply") -> Any:
    (found,) = [row for row in rows(world, dealership, StepResultRow) if row.path == path]
    return found.output


class Interrupted(PostgresJournal):
    """Lets an event happen just before the worker writes this kind of entry."""

    def __init__(self, world: World, event: Event, kind: type = WaitElapsed) -> None:
        super().__init__(world.database, CEL)
        self.world, self.event, self.kind = world, event, kind

    def write(self, snapshot: Any, entries: Sequence[Entry], **named: Any) -> None:
        if any(isinstance(one, self.kind) for one in entries) and rows_open(self.world, self.event):
            happens(self.world, self.event)
        super().write(snapshot, entries, **named)


class Careless(Interrupted):
    """The broken variant: the time wins without asking who came first."""

    def write(self, snapshot: Any, entries: Sequence[Entry], **named: Any) -> None:
        if any(isinstance(one, WaitElapsed) for one in entries):
            happens(self.world, self.event)
        PostgresJournal.write(self, snapshot, [one for one in entries if not isinstance(one, WaitElapsed)], **named)


def rows_open(world: World, event: Event) -> bool:
    with world.database.begin(event.organization_id) as session:
        return session.scalar(select(WaitRow.id).where(WaitRow.state == "open")) is not None


def agree(world: World, dealership: Dealership) -> bool:
    """True if the wait's row and the step's result name the same winner."""
    (wait,) = rows(world, dealership, WaitRow)
    return bool(outcome(world, dealership)["outcome"] == wait.state)


def test_a_wait_holds_nothing_and_goes_on_when_the_time_has_come(world: World, dealership: Dealership) -> None:
    install_workflow(dealership, one_step({"id": "reply", "kind": "wait", "with": {"for": "PT4H"}}))
    dealership.lead()
    turn(world)
    (parked,) = rows(world, dealership, ExecutionRow)

    assert (parked.state, parked.ready_at) == ("waiting", world.clock.now() + 240 * MINUTE)
    assert turn(world) == 0
    world.clock.advance(4 * HOUR_S)
    turn(world)

    assert outcome(world, dealership) == {"outcome": "elapsed", "event": None}
    assert [row.state for row in rows(world, dealership, ExecutionRow)] == ["succeeded"]


def test_the_event_that_matches_ends_the_wait_and_no_other(
    database_urls: Any, world: World, dealership: Dealership
) -> None:
    install_workflow(dealership, one_step(REPLY))
    (execution_id,) = dealership.lead()
    turn(world)
    elsewhere = new_dealership(database_urls, world.database, world.clock)

    for other in (message(dealership, OTHER), message(dealership, kind="message.sent"), message(elsewhere)):
        assert happens(world, other).continued == ()
    assert happens(world, message(dealership)).continued == (execution_id,)
    assert happens(world, message(dealership)).continued == ()
    turn(world)

    found = outcome(world, dealership)
    assert (found["outcome"], found["event"]["data"]["text"]) == ("event", "yes")


def test_an_event_that_comes_while_a_worker_is_busy_is_not_slept_through(world: World, dealership: Dealership) -> None:
    install_workflow(dealership, one_step(REPLY))
    dealership.lead()

    turn(world, journal=Interrupted(world, message(dealership), Parked))

    (row,) = rows(world, dealership, ExecutionRow)
    assert (row.state, row.ready_at) == ("queued", world.clock.now())
    turn(world)
    assert outcome(world, dealership)["outcome"] == "event"


def test_when_time_and_event_race_the_row_and_the_result_name_one_winner(world: World, dealership: Dealership) -> None:
    install_workflow(dealership, one_step(REPLY))
    dealership.lead()
    turn(world)
    event = message(dealership)
    world.clock.advance(4 * HOUR_S)

    turn(world, journal=Interrupted(world, event))

    assert agree(world, dealership)
    assert outcome(world, dealership)["outcome"] == "event"


def test_without_the_guard_the_same_race_has_two_winners(world: World, dealership: Dealership) -> None:
    install_workflow(dealership, one_step(REPLY))
    dealership.lead()
    turn(world)
    event = message(dealership)
    world.clock.advance(4 * HOUR_S)

    turn(world, journal=Careless(world, event))

    assert not agree(world, dealership)


@pytest.mark.parametrize(
    ("text", "zone", "due"),
    [
        ("10:00", "America/Chicago", "2026-11-24T16:00:00+00:00"),
        ("05:00", "America/Chicago", "2026-11-25T11:00:00+00:00"),
        ("2026-12-01T10:00", "America/New_York", "2026-12-01T15:00:00+00:00"),
        ("2026-12-01T10:00:00+02:00", "America/New_York", "2026-12-01T08:00:00+00:00"),
        ("2027-03-14T02:30", "America/Chicago", "2027-03-14T08:00:00+00:00"),
        ("2026-11-01T01:30", "America/Chicago", "2026-11-01T06:30:00+00:00"),
    ],
)
def test_until_is_the_dealerships_time(text: str, zone: str, due: str) -> None:
    now = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)

    assert local_instant(text, now=now, time_zone=zone).isoformat() == due


@pytest.mark.parametrize("text", ["25:00", "2026-12-01", "tomorrow", "10"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        local_instant(text, now=datetime(2026, 11, 24, tzinfo=UTC), time_zone="UTC")


def test_an_emitted_event_starts_another_workflow_with_what_was_found_out(world: World, dealership: Dealership) -> None:
    install_workflow(dealership, one_step(STOCK, EMIT))
    call = {"id": "call", "kind": "assign_task", "with": {"role": "manager", "title": "x", "due": "PT1M"}}
    trigger = [{"id": "t", "type": "event", "event": "appointment.proposed"}]
    install_workflow(dealership, one_step(call, key="other", triggers=trigger))
    dealership.lead()

    turn(world)
    turn(world)

    started = max(rows(world, dealership, ExecutionRow), key=lambda row: row.depth)
    assert (started.state, started.depth) == ("succeeded", 1)
    assert started.event["data"] == {"contact_id": str(CONTACT)}
    assert started.event["findings"] == {"outcome": "succeeded"}


@pytest.mark.parametrize(("method", "is_before", "count"), [
    ("begin_step", False, 1), ("write", True, 1), ("write", True, 2), ("write", False, 2),
])  # fmt: skip
def test_whenever_the_worker_dies_the_event_happens_once(
    world: World, dealership: Dealership, method: str, is_before: bool, count: int
) -> None:
    install_workflow(dealership, one_step(STOCK, EMIT))
    trigger = [{"id": "t", "type": "event", "event": "appointment.proposed"}]
    install_workflow(dealership, one_step(STOCK, key="other", triggers=trigger))
    dealership.lead()
    with pytest.raises(WorkerDied):
        turn(world, journal=Dying(PostgresJournal(world.database, CEL), method, is_before, count))

    world.clock.advance(HOUR_S)
    turn(world)

    assert sorted(row.depth for row in rows(world, dealership, ExecutionRow)) == [0, 1]


def test_workflows_that_start_each_other_end(world: World, dealership: Dealership) -> None:
    trigger = [{"id": "t", "type": "event", "event": "appointment.proposed"}]
    install_workflow(dealership, one_step(STOCK, EMIT))
    again = {**EMIT, "with": {**EMIT["with"], "data": {"contact_id": "${{ event.data.contact_id }}"}}}
    install_workflow(dealership, one_step(STOCK, again, key="echo", triggers=trigger))
    dealership.lead()

    while turn(world):
        pass

    found = rows(world, dealership, ExecutionRow)
    assert len(found) == DEPTH_LIMIT + 1
    assert [row.error["code"] for row in found if row.error] == ["depth_limit"]
