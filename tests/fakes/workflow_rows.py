"""Rows of a dealership as the tests look at them, and those they put there."""

from typing import Any
from uuid import uuid4

from sqlalchemy import insert, select

from auterity_dagster.storage.repositories.send_facts import address_digest
from auterity_dagster.storage.tables.messaging import SuppressionRow
from tests.fakes.workflow_world import Dealership, World


def rows_of(world: World, dealership: Dealership, table: Any) -> list[Any]:
    """Every row of a table that belongs to the dealership's organization."""
    with world.database.begin(dealership.organization_id) as session:
        return list(session.scalars(select(table)))


def the_only(world: World, dealership: Dealership, table: Any) -> Any:
    """The one row there is."""
    (row,) = rows_of(world, dealership, table)
    return row


def suppress(world: World, dealership: Dealership, address: str, *, channel: str | None = None) -> None:
    """Nothing is sent to this address any more."""
    now = world.clock.now()
    with world.database.begin(dealership.organization_id) as session:
        session.execute(
            insert(SuppressionRow).values(
                organization_id=dealership.organization_id, id=uuid4(), channel=channel, reason="opted_out",
                address_digest=address_digest(dealership.organization_id, address), contact_id=None, evidence="stop",
                rules=[], state="in_force", created_at=now, changed_at=now,
            )
        )  # fmt: skip
