"""P-13, about time: a day without any worker, and workers that were frozen and go on when others did their work."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from auterity_dagster.errors import LeaseLost
from auterity_dagster.storage.repositories.journal import PostgresJournal
from tests.chaos.lead_effects import ONE_MESSAGE_A_LEAD
from tests.chaos.test_p13_every_lead_takes_effect_once import LONG_S, verdict_on, work
from tests.conftest import DatabaseUrls
from tests.fakes.clock import FakeClock
from tests.fakes.lead_site import customer_name
from tests.fakes.workflow_world import CEL, NOON, Dealership, World, install_workflow, new_dealership, one_step

LEADS = 12
GAP_S = 25 * 3600.0


@pytest.fixture
def world(database_urls: DatabaseUrls, blocking_database: Any) -> World:
    world = World(blocking_database, FakeClock(NOON))
    world.messenger.is_repeat_safe = True
    return world


@pytest.fixture
def dealership(database_urls: DatabaseUrls, world: World) -> Dealership:
    return new_dealership(database_urls, world.database, world.clock)


@dataclass
class Frozen:
    """A part of a worker that stands still at the n-th call of a method, until `meanwhile` is over, and goes on."""

    part: Any
    method: str
    count: int
    meanwhile: Callable[[], None]
    refused: int = 0
    _calls: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __getattr__(self, name: str) -> Any:
        called = getattr(self.part, name)
        if name != self.method:
            return called

        def watched(*arguments: Any, **named: Any) -> Any:
            with self._lock:
                self._calls += 1
                is_the_one = self._calls == self.count
            if is_the_one:
                self.meanwhile()
            try:
                return called(*arguments, **named)
            except LeaseLost:
                self.refused += 1
                raise

        return watched


def leads(world: World, dealership: Dealership) -> None:
    for number in range(1, LEADS + 1):
        dealership.lead_of_another(number, customer_name=customer_name(number), dedupe_key=f"adf:{number}")


def prepared(world: World, dealership: Dealership) -> None:
    steps = ONE_MESSAGE_A_LEAD["steps"]
    install_workflow(dealership, one_step(*steps, idempotency_key="event.data.dedupe_key", timeout="P3D"))
    leads(world, dealership)


def test_what_came_before_a_day_without_workers_takes_effect_once_after_it(
    world: World, dealership: Dealership
) -> None:
    prepared(world, dealership)

    world.clock.advance(GAP_S)
    leads(world, dealership)
    work(world)

    assert verdict_on(world, dealership, LEADS).reasons == ()


@pytest.mark.parametrize(
    ("part", "method", "count"), [("messenger", "send", 3), ("journal", "begin_step", 4), ("journal", "write", 6)]
)
def test_a_worker_that_was_frozen_and_goes_on_changes_nothing_any_more(
    world: World, dealership: Dealership, part: str, method: str, count: int
) -> None:
    prepared(world, dealership)

    def others_take_over() -> None:
        world.clock.advance(LONG_S)
        work(world)

    journal = PostgresJournal(world.database, CEL)
    inner = journal if part == "journal" else world.messenger
    frozen = Frozen(inner, method, count, others_take_over)
    world.turn("custom_workflow", engine=world.engine(**{"journal": journal, part: frozen}))
    work(world)

    assert verdict_on(world, dealership, LEADS).reasons == ()
    if part == "journal":
        assert frozen.refused > 0, "its late write was not refused"
