"""Usage, quality, savings and recommendations over the API: each organization's own, for those who may see them."""

from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from auterity_dagster.identity.permission import Role
from auterity_dagster.relaycore.quality import Quality, QualityEvidence
from auterity_dagster.relaycore.recommendation import Recommendation, patch_of
from auterity_dagster.storage.repositories.feedback import add_label
from auterity_dagster.storage.repositories.recommendations import put_recommendation
from auterity_dagster.storage.repositories.routing import record_quality
from auterity_dagster.storage.repositories.usage_days import roll_up
from tests.fakes.usage_rows import usage_row
from tests.serving.conftest import Api

PATHS = (
    "/api/v1/usage",
    "/api/v1/analytics/quality",
    "/api/v1/analytics/savings?baseline_price_key=sandbox/large",
    "/api/v1/recommendations",
)


@pytest.fixture
def today(api: Api) -> date:
    return api.clock.now().date()


def use(api: Api, day: date, **changes: Any) -> None:
    with api.database.begin(api.organization_id) as session:
        session.add(usage_row(api.organization_id, day, **changes))


async def usage(api: Api, *by: str) -> list[dict[str, Any]]:
    answer = await api.owner.get("/api/v1/usage", params={"by": list(by)})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_usage_is_the_same_before_and_after_its_day_is_added_up(api: Api, today: date) -> None:
    yesterday = today - timedelta(days=1)
    use(api, yesterday, latency_ms=1000)
    use(api, yesterday, outcome="timeout", latency_ms=9000, cost_nusd=0)
    use(api, today, deployment_id="sandbox-small", first_token_ms=200, is_streamed=True)

    before = await usage(api, "task", "deployment_id")
    with api.database.begin(api.organization_id) as session:
        roll_up(session, api.organization_id, yesterday)
    after = await usage(api, "task", "deployment_id")

    assert before == after
    large, small = after
    assert (large["deployment_id"], large["attempts"], large["error_share"]) == ("sandbox-large", 2, 0.5)
    assert large["latency_p50_ms"] == pytest.approx(1000, rel=0.1)
    assert small["first_token_p95_ms"] == pytest.approx(200, rel=0.1)
    assert small["cost_usd"] == "0.008"


async def test_usage_can_be_seen_side_by_side_by_anything_or_in_one_row(api: Api, today: date) -> None:
    use(api, today)
    use(api, today, purpose="judging")

    by_purpose, by_day = await usage(api, "purpose"), await usage(api, "day")

    assert [row["purpose"] for row in by_purpose] == ["judging", "workflow"]
    assert [(row["day"], row["attempts"]) for row in by_day] == [(today.isoformat(), 2)]


async def test_a_member_of_one_dealership_sees_its_usage_only(api: Api, today: date) -> None:
    own = uuid4()
    use(api, today, dealership_id=own)
    use(api, today)

    async with api.member(Role.MANAGER, dealership_ids=frozenset({own})) as manager:
        seen = (await manager.get("/api/v1/usage")).json()
        refused = await manager.get("/api/v1/analytics/quality")

    assert [row["attempts"] for row in seen] == [1]
    assert refused.status_code == 403


async def test_quality_shows_each_source_and_what_it_still_counts(api: Api) -> None:
    with api.database.begin(api.organization_id) as session:
        record_quality(session, QualityEvidence(api.organization_id, "lead_reply", "digest", "evaluation", 40, 0.9))
        at = api.clock.now() - timedelta(days=14)
        add_label(session, QualityEvidence(api.organization_id, "lead_reply", "digest", "thumb", 10, 0.5, at))

    [found] = (await api.owner.get("/api/v1/analytics/quality")).json()

    assert found["lower_bound"] < found["mean"] < found["upper_bound"]
    assert [(one["source"], one["items"], round(one["weight"], 6)) for one in found["sources"]] == [
        ("evaluation", 40.0, 40.0),
        ("thumb", 10.0, 1.5),
    ]


async def test_savings_are_told_against_a_stated_baseline(api: Api) -> None:
    day = datetime.now(UTC).date()
    use(api, day, deployment_id="sandbox-small", prompt_tokens=1_000_000, completion_tokens=0, cost_nusd=100_000_000)
    asked = {"baseline_price_key": "sandbox/large", "since": str(day), "until": str(day)}

    found = (await api.owner.get("/api/v1/analytics/savings", params=asked)).json()
    unknown = await api.owner.get("/api/v1/analytics/savings", params={**asked, "baseline_price_key": "no/such"})

    assert (found["cost_nusd"], found["baseline_nusd"], found["saved_nusd"]) == (
        100_000_000,
        4_000_000_000,
        3_900_000_000,
    )
    assert unknown.status_code == 422


@pytest.mark.parametrize("path", PATHS)
async def test_nobody_sees_anything_without_the_permission_or_of_others(path: str, api: Api, today: date) -> None:
    use(api, today)
    open_recommendation(api)

    async with api.member(Role.STAFF) as staff:
        refused = await staff.get(path)
    foreign = (await api.foreigner.get(path)).json()

    assert (await api.anonymous.get(path)).status_code == 401
    assert refused.status_code == 403
    assert foreign == [] or foreign["deployments"] == []


@pytest.mark.parametrize(
    "asked", [{"since": "2026-02-02", "until": "2026-02-01"}, {"since": "2020-01-01"}, {"by": "key"}]
)
async def test_a_question_that_has_no_answer_is_refused(asked: dict[str, str], api: Api) -> None:
    assert (await api.owner.get("/api/v1/usage", params=asked)).status_code == 422


def open_recommendation(api: Api) -> None:
    found = Recommendation(
        task="lead_reply",
        from_deployment="sandbox-large",
        to_deployment="sandbox-small",
        requests=1000,
        days=20,
        since=date(2026, 1, 1),
        until=date(2026, 1, 20),
        saving_nusd=10,
        saving_low_nusd=5,
        saving_high_nusd=15,
        quality=Quality(90, 10),
        quality_before=Quality(95, 5),
        quality_change_low=-0.1,
        is_length_measured=True,
    )
    now = datetime.now(UTC)
    with api.database.begin(api.organization_id) as session:
        put_recommendation(session, api.organization_id, found, patch=patch_of(found, priority=900), now=now)


async def test_a_recommendation_is_applied_once_and_taken_back_once(api: Api) -> None:
    open_recommendation(api)
    [listed] = (await api.owner.get("/api/v1/recommendations", params={"state": "open"})).json()
    at = f"/api/v1/recommendations/{listed['id']}"

    answers = [await api.owner.post(f"{at}:{what}") for what in ("apply", "apply", "rollback", "rollback")]
    actions = [one["action"] for one in (await api.owner.get("/api/v1/audit")).json()]

    assert [one.status_code for one in answers] == [200, 409, 200, 409]
    assert (answers[0].json()["state"], answers[2].json()["state"]) == ("applied", "rolled_back")
    assert {"recommendation.applied", "recommendation.rolled_back"} <= set(actions)


async def test_only_who_may_steer_applies_one_and_a_foreign_one_is_not_there(api: Api) -> None:
    open_recommendation(api)
    [listed] = (await api.owner.get("/api/v1/recommendations")).json()
    at = f"/api/v1/recommendations/{listed['id']}:apply"

    async with api.member(Role.MANAGER) as manager:
        refused = await manager.post(at)

    assert refused.status_code == 403
    assert (await api.foreigner.post(at)).status_code == 404
    assert (await api.owner.post(f"/api/v1/recommendations/{UUID(int=0)}:rollback")).status_code == 404
