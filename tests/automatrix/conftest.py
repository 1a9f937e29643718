"""A dealership, and the world its workflows meet."""

import pytest

from auterity_dagster.storage.database import BlockingDatabase
from tests.fakes.clock import FakeClock
from tests.fakes.workflow_world import NOON, Dealership, World, new_dealership


@pytest.fixture
def world(blocking_database: BlockingDatabase) -> World:
    return World(blocking_database, FakeClock(NOON))


@pytest.fixture
def dealership(database_urls, world: World) -> Dealership:
    return new_dealership(database_urls, world.database, world.clock)
