"""A cap above what one person may decide waits for another: proposed, approved by somebody else, or rejected."""

from typing import Any
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest

from auterity_dagster.identity.permission import Role
from tests.conftest import DatabaseUrls
from tests.serving.conftest import Api

MONTHLY = {"name": "Monthly", "scope": "organization", "period": "month", "cap_usd": "500"}
RAISED = {"cap_usd": "1000.01"}
READ = {"if-match": "1"}


@pytest.fixture
async def budget(api: Api) -> dict[str, Any]:
    return (await api.owner.post("/api/v1/budgets", json=MONTHLY)).json()


def path_of(budget: dict[str, Any]) -> str:
    return f"/api/v1/budgets/{budget['id']}"


async def proposed(api: Api, budget: dict[str, Any]) -> dict[str, Any]:
    answer = await api.owner.patch(path_of(budget), json=RAISED, headers=READ)
    assert answer.status_code == 202, answer.text
    return answer.json()


async def cap_of(api: Api) -> str:
    return {one["name"]: one["cap_usd"] for one in (await api.owner.get("/api/v1/budgets")).json()}["Monthly"]


async def test_a_second_person_approves_what_the_first_one_proposed(api: Api, budget: dict[str, Any]) -> None:
    proposal = await proposed(api, budget)
    before = await cap_of(api)
    async with api.member(Role.ADMIN) as second:
        approved = await second.post(f"{path_of(budget)}/proposals/{proposal['id']}:approve", headers=READ)
    [listed] = (await api.owner.get(f"{path_of(budget)}/proposals")).json()
    log = (await api.owner.get("/api/v1/audit")).json()

    assert (proposal["state"], proposal["proposed_by"], before) == ("waiting", str(api.owner_id), "500.00")
    assert (approved.status_code, approved.json()["cap_usd"], approved.json()["version"]) == (200, "1000.01", 2)
    assert (listed["state"], listed["decided_by"] != listed["proposed_by"]) == ("approved", True)
    actions = [one["action"] for one in log if one["subject"] == f"budget/{budget['id']}"]
    assert {"budget.change_proposed", "budget.change_approved"} <= set(actions)


async def test_nobody_else_approves_and_least_of_all_who_proposed_it(api: Api, budget: dict[str, Any]) -> None:
    proposal = await proposed(api, budget)
    path = f"{path_of(budget)}/proposals/{proposal['id']}:approve"

    own = await api.owner.post(path, headers=READ)
    async with api.member(Role.MANAGER) as manager:
        statuses = [
            (await client.post(path, headers=READ)).status_code for client in (api.anonymous, manager, api.foreigner)
        ]

    assert (own.status_code, own.json()["code"]) == (403, "second_person_needed")
    assert statuses == [401, 403, 404]
    assert await cap_of(api) == "500.00"


async def test_one_person_is_enough_up_to_the_limit_for_less_and_where_nothing_is_refused(api: Api) -> None:
    changes = (
        ({"cap_usd": "500"}, "1000"),
        ({"cap_usd": "9000"}, "8000"),
        ({"cap_usd": "500", "enforcement": "soft"}, "1000.01"),
    )
    for number, (made, cap_usd) in enumerate(changes):
        budget = (await api.owner.post("/api/v1/budgets", json=MONTHLY | made | {"name": f"{number}"})).json()

        assert (await api.owner.patch(path_of(budget), json={"cap_usd": cap_usd}, headers=READ)).status_code == 200


async def test_one_change_waits_at_a_time_until_it_is_rejected(api: Api, budget: dict[str, Any]) -> None:
    proposal = await proposed(api, budget)
    second = await api.owner.patch(path_of(budget), json={"cap_usd": "2000"}, headers=READ)
    rejected = await api.owner.post(f"{path_of(budget)}/proposals/{proposal['id']}:reject")
    again = await api.owner.post(f"{path_of(budget)}/proposals/{proposal['id']}:reject")
    third = await api.owner.patch(path_of(budget), json={"cap_usd": "2000"}, headers=READ)

    assert [one.status_code for one in (second, rejected, again, third)] == [409, 200, 409, 202]
    assert rejected.json()["state"] == "rejected"


async def test_a_proposal_does_not_outlive_the_version_that_it_was_made_on(api: Api, budget: dict[str, Any]) -> None:
    proposal = await proposed(api, budget)
    await api.owner.patch(path_of(budget), json={"cap_usd": "600"}, headers=READ)

    async with api.member(Role.ADMIN) as second:
        path = f"{path_of(budget)}/proposals/{proposal['id']}:approve"
        statuses = [(await second.post(path, headers={"if-match": version})).status_code for version in ("1", "2")]

    assert statuses == [409, 409]
    assert await cap_of(api) == "600.00"


async def test_a_proposal_that_nobody_answered_is_over_after_a_week(
    api: Api, budget: dict[str, Any], database_urls: DatabaseUrls
) -> None:
    proposal = await proposed(api, budget)
    with psycopg.connect(database_urls.owner) as connection:
        connection.execute("UPDATE budget_proposal SET expires_at = now()")

    async with api.member(Role.ADMIN) as second:
        answer = await second.post(f"{path_of(budget)}/proposals/{proposal['id']}:approve", headers=READ)

    assert answer.status_code == 409
    assert [one["state"] for one in (await api.owner.get(f"{path_of(budget)}/proposals")).json()] == ["expired"]


async def test_an_old_version_is_refused_before_anything_is_proposed(api: Api, budget: dict[str, Any]) -> None:
    answers: list[httpx.Response] = [
        await api.owner.patch(path_of(budget), json=RAISED, headers={"if-match": version}) for version in ("2", "one")
    ]
    missing = await api.owner.post(f"{path_of(budget)}/proposals/{UUID(int=uuid4().int)}:reject")

    assert [one.status_code for one in (*answers, missing)] == [409, 422, 404]
