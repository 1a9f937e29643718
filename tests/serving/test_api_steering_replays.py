"""A draft replayed over the API, over what the database holds of past decisions."""

from datetime import timedelta
from uuid import uuid4

import pytest

from auterity_dagster.storage.tables.routing import RequestRow
from auterity_dagster.storage.tables.steering import DecisionContextRow
from tests.fakes.past_decisions import THEN, past
from tests.fakes.policy_mistakes import SHIPPED
from tests.serving.conftest import Api

BEST = SHIPPED.replace("objective: balanced", "objective: best", 1).replace(
    "expect: {rule: dealership-tasks, objective: balanced}", "expect: {rule: dealership-tasks, objective: best}"
)
DRAFT = BEST.replace(
    "expect: {rule: default, objective: balanced}", "expect: {rule: default, objective: best}"
).replace("name: dealership-default", "name: our-own")


@pytest.fixture
def decided(api: Api) -> None:
    """Four decisions of today and one of two weeks ago."""
    decisions, contexts = past(requests=5)
    now = api.clock.now()
    with api.database.begin(api.organization_id) as session:
        for (kind, digest), content in contexts.items():
            session.add(
                DecisionContextRow(organization_id=api.organization_id, kind=kind, digest=digest, content=dict(content))
            )
        for number, one in enumerate(decisions):
            at = now - timedelta(days=14) if number == 4 else now
            session.add(
                RequestRow(
                    organization_id=api.organization_id,
                    day=at.date(),
                    id=one.request_id,
                    key_id=uuid4(),
                    purpose="workflow",
                    task="lead_reply",
                    model="auto",
                    is_stream=False,
                    policy_digest=THEN.digest,
                    decision={},
                    decided_on=dict(one.inputs),
                    attempts=[],
                    outcome="ok",
                    cost_nusd=0,
                    latency_ms=1,
                    received_at=at,
                )
            )


async def test_a_replay_says_what_would_change_and_is_kept_with_the_version(api: Api, decided: None) -> None:
    version = (await api.owner.post("/api/v1/steering-policies", json={"yaml": DRAFT})).json()
    path = f"/api/v1/steering-policies/our-own/{version['version']}"

    answer = await api.owner.post(f"{path}:replay", json={"days": 7})
    longer = await api.owner.post(f"{path}:replay", json={"days": 30})
    foreign = await api.foreigner.post(f"{path}:replay", json={"days": 7})

    found = answer.json()
    assert (found["replayed"], found["compared"], found["changed"], found["skipped"]) == (4, 4, 4, 0)
    assert found["changes"] == [{"from_choice": "sandbox-small", "to_choice": "sandbox-large", "requests": 4}]
    assert found["cost_after_nusd"] > found["cost_before_nusd"] > 0
    assert found["quality_after"] > found["quality_before"]
    assert len(found["examples"]) == 3
    assert (longer.json()["replayed"], foreign.status_code) == (5, 404)
    reports = (await api.owner.get(path)).json()["reports"]
    assert [(one["kind"], one["days"], one["changed"]) for one in reports] == [("replay", 7, 4), ("replay", 30, 5)]
