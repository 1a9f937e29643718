"""Budgets, the ledger and usage over the API: who may see them, and that the figures are the ledger's."""

from uuid import uuid4

import pytest

from auterity_dagster.identity.permission import Role
from auterity_dagster.relaycore.ports import Settlement
from auterity_dagster.storage.repositories.ledger import open_ledger
from tests.fakes.ledger_requests import hold_request, usage_record

MONTHLY = {"name": "Monthly", "scope": "organization", "period": "month", "cap_usd": "0.000001"}
PATHS = [
    "/api/v1/budgets",
    "/api/v1/ledger/summary",
    "/api/v1/holds",
    "/api/v1/reconciliations",
    "/api/v1/usage/summary",
]


@pytest.fixture
async def spent(api, database_urls) -> None:
    """One settled call of 300 and one open hold of 200 nano-dollars, under a budget of 1,000."""
    await api.owner.post("/api/v1/budgets", json=MONTHLY)
    async with open_ledger(database_urls.application) as ledger:
        settled = await ledger.hold(hold_request(api.organization_id, amount_nusd=500))
        await ledger.hold(hold_request(api.organization_id, amount_nusd=200))
        await ledger.settle(Settlement(settled, 300, usage_record()))


@pytest.mark.parametrize("path", PATHS)
async def test_money_is_not_shown_to_strangers(api, path: str) -> None:
    assert (await api.anonymous.get(path)).status_code == 401
    assert (await api.member(Role.STAFF).get(path)).status_code == 403


@pytest.mark.parametrize("path", PATHS)
async def test_another_organization_sees_only_its_own(api, spent, path: str) -> None:
    answer = await api.foreigner.get(path)

    assert answer.status_code == 200
    assert "Monthly" not in answer.text
    assert "sandbox" not in answer.text


async def test_a_manager_of_one_dealership_does_not_see_the_sum_of_all(api) -> None:
    manager = api.member(Role.MANAGER, dealership_ids=frozenset({uuid4()}))

    assert (await manager.get("/api/v1/ledger/summary")).status_code == 403
    assert (await manager.get("/api/v1/usage/summary")).json()["deployments"] == []


async def test_a_manager_reads_budgets_and_does_not_write_them(api) -> None:
    manager = api.member(Role.MANAGER)

    assert (await manager.get("/api/v1/budgets")).status_code == 200
    assert (await manager.post("/api/v1/budgets", json=MONTHLY)).status_code == 403


async def test_the_windows_show_what_is_held_and_settled(api, spent) -> None:
    budgets = {budget["name"]: budget for budget in (await api.owner.get("/api/v1/budgets")).json()}
    (window,) = (await api.owner.get(f"/api/v1/budgets/{budgets['Monthly']['id']}/windows")).json()

    assert (window["held_nusd"], window["settled_nusd"], window["left_usd"]) == (200, 300, "0.0000005")
    assert set(budgets) == {"All spending", "Monthly"}


async def test_the_ledger_adds_up(api, spent) -> None:
    ledger = (await api.owner.get("/api/v1/ledger/summary")).json()

    assert ledger == {
        "entries_sum_nusd": 0,
        "spend_nusd": 300,
        "suspense_nusd": 0,
        "held_nusd": 200,
        "open_holds": 1,
        "unknown_holds": 0,
        "max_over_nusd": -500,
        "overage_nusd": 0,
        "payable_nusd": {"sandbox/large": 300},
    }
    assert len((await api.owner.get("/api/v1/holds")).json()) == 1


async def test_usage_says_what_the_same_tokens_would_have_cost_elsewhere(api, spent) -> None:
    answer = (await api.owner.get("/api/v1/usage/summary", params={"price_key": "sandbox/large"})).json()

    (deployment,) = answer["deployments"]
    assert (deployment["requests"], deployment["prompt_tokens"], deployment["completion_tokens"]) == (1, 10, 5)
    assert deployment["cost_nusd"] == 300
    assert answer["elsewhere_nusd"] == deployment["elsewhere_nusd"] == 10 * 4000 + 5 * 20_000


async def test_an_unknown_price_is_said_plainly(api) -> None:
    answer = await api.owner.get("/api/v1/usage/summary", params={"price_key": "none/such"})

    assert (answer.status_code, answer.json()["code"]) == (422, "price_unknown")


async def test_a_cap_changes_only_on_top_of_what_was_read(api, spent) -> None:
    (budget,) = [one for one in (await api.owner.get("/api/v1/budgets")).json() if one["name"] == "Monthly"]
    path, change = f"/api/v1/budgets/{budget['id']}", {"cap_usd": "5"}

    first = await api.owner.patch(path, json=change, headers={"if-match": "1"})
    second = await api.owner.patch(path, json=change, headers={"if-match": "1"})
    missing = await api.owner.patch(f"/api/v1/budgets/{uuid4()}", json=change, headers={"if-match": "1"})

    assert (first.status_code, first.json()["version"]) == (200, 2)
    assert (second.status_code, missing.status_code) == (409, 404)


async def test_the_alerts_of_a_budget_change_without_its_cap(api, spent) -> None:
    (budget,) = [one for one in (await api.owner.get("/api/v1/budgets")).json() if one["name"] == "Monthly"]
    assert budget["alert_percents"] == [80, 100]

    changed = await api.owner.patch(
        f"/api/v1/budgets/{budget['id']}", json={"alert_percents": [90, 50]}, headers={"if-match": "1"}
    )

    assert changed.json() == budget | {"alert_percents": [50, 90], "version": 2}


@pytest.mark.parametrize(
    ("wrong", "status"),
    [
        ({"cap_usd": 5}, 422),
        ({"cap_usd": "-5"}, 422),
        ({"cap_usd": "0.0000000001"}, 422),
        ({"period": "fortnight"}, 422),
        ({"time_zone": "Mars/Olympus"}, 422),
        ({"name": "All spending"}, 422),
        ({"value": "somebody else"}, 422),
        ({"alert_percents": [0]}, 422),
        ({"surprise": 1}, 422),
    ],
)
async def test_a_wrong_budget_is_refused(api, wrong: dict[str, object], status: int) -> None:
    assert (await api.owner.post("/api/v1/budgets", json=MONTHLY | wrong)).status_code == status


async def test_two_budgets_cannot_have_one_name(api) -> None:
    await api.owner.post("/api/v1/budgets", json=MONTHLY)

    assert (await api.owner.post("/api/v1/budgets", json=MONTHLY)).status_code == 409
