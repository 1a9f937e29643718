"""Daily figures of workflows over the API: for those who may see the dealership, of their own organization only."""

from datetime import date, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from auterity_dagster.storage.tables.workflow_analytics import LeadResponseDayRow, WorkflowDayRow
from tests.serving.conftest import Api

PATH = "/api/v1/workflow-analytics"


def add_days(api: Api, dealership_id: UUID, day: date) -> None:
    common: dict[str, Any] = {"organization_id": api.organization_id, "dealership_id": dealership_id, "day": day}
    with api.database.begin(api.organization_id) as session:
        session.add(LeadResponseDayRow(**common, leads=4, answered=3, within_5_min=2, negative=0, p50_s=40, p90_s=700))
        session.add(
            WorkflowDayRow(
                **common, workflow_id=uuid4(), workflow_key="lead_response", received=4, drafted=4, reviewed=2,
                approved=1, sent=3, succeeded=3, failed=0, prompt_tokens=400, completion_tokens=80, cost_nusd=1_000,
            )
        )  # fmt: skip


async def test_days_are_returned_with_what_a_message_cost(api: Api) -> None:
    day = api.clock.now().date() - timedelta(days=1)
    add_days(api, uuid4(), day)

    times = (await api.owner.get(f"{PATH}/response-times")).json()
    funnel = (await api.owner.get(f"{PATH}/funnel")).json()

    assert [(one["day"], one["leads"], one["within_5_min"], one["p90_s"]) for one in times] == [(str(day), 4, 2, 700)]
    assert [(one["workflow"], one["sent"], one["cost_per_sent_nusd"]) for one in funnel] == [("lead_response", 3, 334)]
    assert (await api.owner.get(f"{PATH}/stuck")).json() == []
    assert (await api.foreigner.get(f"{PATH}/funnel")).json() == []


@pytest.mark.parametrize("what", ["response-times", "funnel", "stuck"])
async def test_nobody_reads_them_without_signing_in(api: Api, what: str) -> None:
    answer = await api.anonymous.get(f"{PATH}/{what}")

    assert answer.status_code == 401


async def test_a_time_that_ends_before_it_begins_is_refused_by_name(api: Api) -> None:
    answer = await api.owner.get(f"{PATH}/funnel", params={"since": "2026-02-02", "until": "2026-02-01"})

    assert answer.status_code == 422
    assert "since" in answer.text
