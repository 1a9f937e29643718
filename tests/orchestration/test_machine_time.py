"""Machine time in the books of an organization: real PostgreSQL, the gateway's own ledger."""

from uuid import UUID, uuid4

import pytest
from sqlalchemy import select

from auterity_dagster.clock import SystemClock
from auterity_dagster.errors import BudgetExceeded
from auterity_dagster.resources.training_ledger import machine_time
from auterity_dagster.storage.database import BlockingDatabase
from auterity_dagster.storage.repositories.organizations import create_organization
from auterity_dagster.storage.tables.ledger import BudgetRow, BudgetWindowRow, EntryRow, HoldRow
from tests.conftest import DatabaseUrls

DOLLAR = 1_000_000_000
AN_HOUR = 3600


@pytest.fixture
def organization_id(blocking_database: BlockingDatabase) -> UUID:
    return create_organization(
        blocking_database,
        name="Harbor Group",
        owner_email="owner@example.com",
        owner_password="a long enough passphrase",
        pepper=bytes.fromhex("ab" * 32),
        clock=SystemClock(),
    ).organization_id


def budget(database: BlockingDatabase, organization_id: UUID, *, cap_nusd: int) -> None:
    with database.begin(organization_id) as session:
        session.add(
            BudgetRow(
                organization_id=organization_id,
                id=uuid4(),
                name="training",
                scope="purpose",
                value="training",
                period="lifetime",
                time_zone="UTC",
                cap_nusd=cap_nusd,
                enforcement="hard",
                alert_percents=[],
                version=1,
            )
        )


def trained(urls: DatabaseUrls, organization_id: UUID, *, seconds: float, is_failing: bool = False) -> None:
    """Train for so many seconds on a machine of three dollars an hour, with an hour allowed."""
    with machine_time(
        urls.application,
        organization_id=organization_id,
        device_class="cuda-80g",
        stage_key="a" * 64,
        nusd_per_hour=3 * DOLLAR,
        cap_s=AN_HOUR,
    ) as machine:
        machine.seconds += seconds
        if is_failing:
            raise RuntimeError("the stage failed")


def test_the_seconds_are_settled_and_the_rest_is_given_back(
    database_urls: DatabaseUrls, blocking_database: BlockingDatabase, organization_id: UUID
) -> None:
    budget(blocking_database, organization_id, cap_nusd=4 * DOLLAR)

    trained(database_urls, organization_id, seconds=600)
    with pytest.raises(RuntimeError):
        trained(database_urls, organization_id, seconds=300, is_failing=True)

    with blocking_database.begin(organization_id) as session:
        holds = list(session.scalars(select(HoldRow).order_by(HoldRow.created_at)))
        window = session.scalars(select(BudgetWindowRow).where(BudgetWindowRow.is_hard)).one()
        spent = sum(session.scalars(select(EntryRow.amount_nusd).where(EntryRow.account == "spend")))
    assert [(hold.state, hold.amount_nusd, hold.cost_nusd) for hold in holds] == [
        ("settled", 3 * DOLLAR, DOLLAR // 2),
        ("settled", 3 * DOLLAR, DOLLAR // 4),
    ]
    assert (window.settled_nusd, window.held_nusd) == (3 * DOLLAR // 4, 0)
    assert spent == 3 * DOLLAR // 4


def test_a_budget_without_room_for_the_longest_time_refuses(
    database_urls: DatabaseUrls, blocking_database: BlockingDatabase, organization_id: UUID
) -> None:
    budget(blocking_database, organization_id, cap_nusd=2 * DOLLAR)

    with pytest.raises(
        BudgetExceeded, match=r'Budget "training" .* has \$2.00 of \$2.00 left; this call may cost \$3.00'
    ):
        trained(database_urls, organization_id, seconds=1)
