"""Own prices over the API: compared, imported, approved by a second person, and never edited."""

from collections.abc import Mapping
from typing import Any

import pytest

from auterity_dagster.identity.permission import Role
from tests.serving.conftest import Api

PRICES = "/api/v1/prices"


def written(day: str, *, key: str = "sandbox/small", **dollars: str) -> dict[str, str]:
    rates = ", ".join(f'{name}: "{amount}"' for name, amount in dollars.items())
    yaml = f"""version: 1
prices:
  - key: {key}
    in_force_from: {day}
    source: "agreement of 2026-11-20"
    usd_per_mtok: [{{{rates}}}]
"""
    return {"yaml": yaml}


def dear(day: str) -> dict[str, str]:
    return written(day, input="77", output="2")


async def in_force(api: Api, key: str = "sandbox/small", **params: str) -> Mapping[str, Any]:
    listed = (await api.owner.get(PRICES, params=params)).json()
    return next(one for one in listed if one["key"] == key)


@pytest.fixture
async def before(api: Api) -> Mapping[str, Any]:
    """The common price of the key that is changed here."""
    return await in_force(api)


def near(before: Mapping[str, Any], *, day: str) -> dict[str, str]:
    """The same price from another day on: a change of 0 %."""
    [rates] = before["usd_per_mtok"]
    return written(day, **{name: one for name, one in rates.items() if isinstance(one, str)})


async def test_a_small_change_takes_effect_and_a_large_one_waits_for_a_second_person(
    api: Api, before: Mapping[str, Any]
) -> None:
    today = api.clock.now().date().isoformat()
    admin = api.member(Role.ADMIN)

    [difference] = (await api.owner.post(f"{PRICES}:diff", json=dear(today))).json()
    [waiting] = (await api.owner.post(PRICES, json=dear(today))).json()
    meanwhile = await in_force(api)
    alone = await api.owner.post(f"{PRICES}/{waiting['id']}:approve")
    listed = (await api.owner.get(f"{PRICES}/entries", params={"waiting": True})).json()
    approved = await admin.post(f"{PRICES}/{waiting['id']}:approve")
    again = await admin.post(f"{PRICES}/{waiting['id']}:approve")

    assert difference["before"]["digest"] == before["digest"]
    assert difference["needs_approval"]
    assert (waiting["approved_at"], meanwhile["digest"]) == (None, before["digest"])
    assert (alone.status_code, alone.json()["code"]) == (409, "second_person_needed")
    assert [one["id"] for one in listed] == [waiting["id"]]
    assert (approved.status_code, again.status_code) == (200, 409)
    assert (await in_force(api))["digest"] == waiting["price"]["digest"]
    assert (await api.foreigner.get(f"{PRICES}/entries")).json() == []


async def test_an_entry_that_changes_little_is_in_force_from_its_day_on(api: Api, before: Mapping[str, Any]) -> None:
    [entry] = (await api.owner.post(PRICES, json=near(before, day="2090-01-01"))).json()

    assert entry["change_percent"] == 0
    assert entry["approved_by"] == str(api.owner_id)
    assert (await in_force(api))["digest"] == before["digest"]
    assert (await in_force(api, on="2090-01-01"))["digest"] == entry["price"]["digest"]


async def test_an_entry_is_never_edited_nor_its_day_taken_twice(api: Api, before: Mapping[str, Any]) -> None:
    first = near(before, day="2090-01-01")
    await api.owner.post(PRICES, json=first)

    same = await api.owner.post(PRICES, json=first)
    other = await api.owner.post(PRICES, json={"yaml": first["yaml"].replace("agreement", "another one")})

    assert (same.status_code, other.status_code) == (409, 409)
    assert other.json()["code"] == "price_exists"


async def test_what_is_wrong_with_a_list_is_said_with_its_place(api: Api) -> None:
    wrong = dear("2090-01-01")["yaml"].replace('"77"', "77")

    refused = await api.owner.post(f"{PRICES}:diff", json={"yaml": wrong})

    assert (refused.status_code, refused.json()["code"]) == (422, "prices_invalid")
    assert refused.json()["mistakes"][0]["path"] == "prices.0.usd_per_mtok.0.input"


async def test_who_may_not_approve_prices_imports_none(api: Api) -> None:
    developer = api.member(Role.DEVELOPER)

    assert (await api.anonymous.get(PRICES)).status_code == 401
    assert (await developer.get(PRICES)).status_code == 200
    assert (await developer.post(PRICES, json=dear("2090-01-01"))).status_code == 403


async def test_an_import_and_its_approval_are_audited_with_their_digests(api: Api) -> None:
    [entry] = (await api.owner.post(PRICES, json=dear("2090-01-01"))).json()
    await api.member(Role.ADMIN).post(f"{PRICES}/{entry['id']}:approve")

    entries = {one["action"]: one["details"] for one in (await api.owner.get("/api/v1/audit")).json()}

    digest = entry["price"]["digest"]
    assert entries["price.imported"] == {"digests": [digest], "waiting": [digest]}
    assert entries["price.approved"]["digest"] == digest
