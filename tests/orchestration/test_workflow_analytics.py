"""AutoMatrix's daily figures, materialised over executions that a real engine carried, and what is found stuck."""

from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

import dagster as dg
import psycopg
import pytest
from sqlalchemy import select

from auterity_dagster.assets.automatrix.analytics import lead_response_times, stuck_executions, workflow_funnel
from auterity_dagster.resources.database import DatabaseResource
from auterity_dagster.storage.database import BlockingDatabase
from auterity_dagster.storage.tables.inbound import ContactRow, InboundEventRow, LeadRow
from auterity_dagster.storage.tables.workflow_analytics import LeadResponseDayRow, WorkflowDayRow
from auterity_dagster.storage.tables.workflows import ExecutionRow
from tests.conftest import DatabaseUrls
from tests.fakes.clock import FakeClock
from tests.fakes.workflow_world import Dealership, World, install_workflow, new_dealership

# Half past ten in the evening in Chicago: in UTC it is the next day already.
EVENING = datetime(2026, 11, 24, 4, 30, tzinfo=UTC)
LOCAL_DAY = "2026-11-23"


@dataclass
class Stage:
    """A dealership with answered and unanswered leads, and the resources of the assets."""

    urls: DatabaseUrls
    database: BlockingDatabase
    dealership: Dealership
    world: World

    def lead(self, number: int) -> None:
        """A stored lead that starts its execution."""
        (execution_id,) = self.dealership.lead(number)
        common = {"organization_id": self.dealership.organization_id, "dealership_id": self.dealership.dealership_id}
        now = self.dealership.clock.now()
        with self.database.begin(self.dealership.organization_id) as session:
            subject = session.scalars(select(ExecutionRow.subject).where(ExecutionRow.id == execution_id)).one()
            lead_id = UUID(subject.removeprefix("leads/"))
            session.add_all(
                [
                    InboundEventRow(
                        **common, id=lead_id, source="test", message_id=str(lead_id), kind="json", body_digest=b"",
                        raw=b"", state="accepted", received_at=now,
                    ),
                    ContactRow(
                        **common, id=lead_id, address_digest=lead_id.bytes, name="", is_business=False, emails=[],
                        phones=[], created_at=now,
                    ),
                ]
            )  # fmt: skip
            session.flush()
            session.add(
                LeadRow(
                    **common, id=lead_id, contact_id=lead_id, inbound_event_id=lead_id, dedupe_key=str(lead_id),
                    customer_name="", comments="", vehicles=[], details={}, flags=[], requested_at=now, received_at=now,
                )
            )  # fmt: skip

    def materialised(self, asset: dg.AssetsDefinition, *, day: str | None = None) -> dg.ExecuteInProcessResult:
        resources = {"database": DatabaseResource(url=self.urls.application)}
        with dg.DagsterInstance.ephemeral() as instance:
            return dg.materialize([asset], resources=resources, instance=instance, partition_key=day)

    def rows(self, row: type) -> list:
        with self.database.begin(self.dealership.organization_id) as session:
            return list(session.scalars(select(row)))


def passed(result: dg.ExecuteInProcessResult) -> dict[str, bool]:
    return {one.check_name: one.passed for one in result.get_asset_check_evaluations()}


@pytest.fixture
def stage(database_urls: DatabaseUrls, blocking_database: BlockingDatabase) -> Stage:
    clock = FakeClock(EVENING)
    dealership = new_dealership(database_urls, blocking_database, clock)
    install_workflow(dealership, "lead_response", {"auto_send": True})
    return Stage(database_urls, blocking_database, dealership, World(blocking_database, clock))


def test_a_day_is_the_dealerships_own_and_an_answer_is_the_first_message_that_left(stage: Stage) -> None:
    for number in range(2):
        stage.lead(number)
    stage.world.clock.advance(60)
    stage.world.turn()
    stage.lead(3)

    result = stage.materialised(lead_response_times, day="2026-11-24")
    stage.materialised(lead_response_times, day="2026-11-24")

    assert passed(result) == {"no_negative_time": True}
    (day,) = stage.rows(LeadResponseDayRow)
    assert (str(day.day), day.leads, day.answered, day.within_5_min) == (LOCAL_DAY, 3, 2, 2)
    assert 60 <= day.p50_s <= day.p90_s < 120


def test_the_funnel_counts_executions_once_and_every_attempts_cost(stage: Stage) -> None:
    for number in range(3):
        stage.lead(number)
    stage.world.turn()

    result = stage.materialised(workflow_funnel, day="2026-11-24")

    assert passed(result) == {"funnel_falls": True}
    (day,) = stage.rows(WorkflowDayRow)
    assert (day.workflow_key, day.received, day.drafted, day.reviewed, day.sent) == ("lead_response", 3, 3, 0, 3)
    assert (day.succeeded, day.failed, day.cost_nusd) == (3, 0, 3 * 12_345)


def test_an_answer_before_its_lead_fails_the_check(stage: Stage) -> None:
    stage.lead(1)
    stage.world.turn()
    with psycopg.connect(stage.urls.owner) as connection:
        connection.execute("UPDATE side_effect SET resolved_at = resolved_at - interval '1 hour'")

    result = stage.materialised(lead_response_times, day="2026-11-24")

    assert passed(result) == {"no_negative_time": False}


def test_more_approved_than_reviewed_fails_the_check(stage: Stage) -> None:
    stage.lead(1)
    stage.world.turn()
    stage.materialised(workflow_funnel, day="2026-11-24")
    with psycopg.connect(stage.urls.owner) as connection:
        connection.execute("CREATE FUNCTION more() RETURNS trigger LANGUAGE plpgsql AS "
                           "$$ BEGIN NEW.approved = NEW.reviewed + 1; RETURN NEW; END $$")  # fmt: skip
        connection.execute("CREATE TRIGGER more BEFORE INSERT ON workflow_day FOR EACH ROW EXECUTE FUNCTION more()")

    result = stage.materialised(workflow_funnel, day="2026-11-24")

    assert passed(result) == {"funnel_falls": False}


def test_what_is_overdue_or_unclear_is_stuck_and_what_waits_in_time_is_not(stage: Stage) -> None:
    for number in range(2):
        stage.lead(number)
    before = stage.materialised(stuck_executions)
    with psycopg.connect(stage.urls.owner) as connection:
        connection.execute("UPDATE execution SET ready_at = now() + interval '1 hour'")
    in_time = stage.materialised(stuck_executions)

    assert passed(before) == {"nothing_stuck": False}
    assert before.asset_materializations_for_node("stuck_executions")[0].metadata["overdue"].value == 2
    assert passed(in_time) == {"nothing_stuck": True}
