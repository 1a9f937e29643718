"""Versions of a steering policy over the API: who may write and activate them, and what is refused and why."""

from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from auterity_dagster.identity.permission import Role
from auterity_dagster.relaycore.steering_file import policy_digest
from tests.fakes.policy_mistakes import MISTAKES, SHIPPED
from tests.serving.conftest import Api

POLICIES = "/api/v1/steering-policies"
OWN = SHIPPED.replace("name: dealership-default", "name: our-own")
NEWER = OWN.replace("max_output_tokens: 1024", "max_output_tokens: 512")


@pytest.fixture
def admin(api: Api) -> httpx.AsyncClient:
    return api.member(Role.ADMIN)


async def drafted(client: httpx.AsyncClient, text: str = OWN) -> str:
    """Add a version and return its path."""
    answer = await client.post(POLICIES, json={"yaml": text})
    assert answer.status_code == 201, answer.text
    return f"{POLICIES}/{answer.json()['name']}/{answer.json()['version']}"


async def in_force(client: httpx.AsyncClient) -> Mapping[str, Any]:
    return (await client.get(f"{POLICIES}/in-force")).json()


async def change(client: httpx.AsyncClient, path: str, *, over: str | None = None) -> httpx.Response:
    over = over or (await in_force(client))["digest"]
    return await client.post(path, headers={"if-match": f'"{over}"'})


async def test_the_platforms_policy_steers_who_has_none(api: Api) -> None:
    steering = await in_force(api.owner)

    assert (steering["name"], steering["version"], steering["yaml"]) == ("dealership-default", None, SHIPPED)
    assert steering["digest"] == policy_digest(SHIPPED)


async def test_a_version_is_written_by_one_person_and_activated_by_another(api: Api, admin: httpx.AsyncClient) -> None:
    path = await drafted(api.owner)

    alone = await change(api.owner, f"{path}:activate")
    together = await change(admin, f"{path}:activate")
    again = await change(admin, f"{path}:activate")

    assert (alone.status_code, alone.json()["code"]) == (409, "second_person_needed")
    assert (together.status_code, together.json()["status"]) == (200, "active")
    assert (again.status_code, again.json()["code"]) == (409, "version_state")
    assert (await in_force(api.owner))["version"] == 1
    assert (await in_force(api.foreigner))["version"] is None


async def test_a_version_comes_back_by_one_person_and_nothing_is_edited(api: Api, admin: httpx.AsyncClient) -> None:
    first, second = await drafted(api.owner), await drafted(api.owner, NEWER)
    await change(admin, f"{first}:activate")
    await change(admin, f"{second}:activate")

    never_active = await change(api.owner, f"{await drafted(api.owner, NEWER + '# 3')}:rollback")
    back = await change(api.owner, f"{first}:rollback")
    versions = {one["version"]: one["status"] for one in (await api.owner.get(POLICIES)).json()}

    assert (never_active.status_code, back.status_code) == (409, 200)
    assert versions == {1: "active", 2: "archived", 3: "draft"}
    assert (await api.owner.get(first)).json()["yaml"] == OWN
    assert (await change(api.owner, f"{first}:retire")).json()["status"] == "archived"
    assert (await in_force(api.owner))["version"] is None


async def test_a_change_stands_on_what_its_maker_saw(api: Api, admin: httpx.AsyncClient) -> None:
    first, second = await drafted(api.owner), await drafted(api.owner, NEWER)
    seen = (await in_force(admin))["digest"]
    await change(admin, f"{first}:activate")

    late = await change(admin, f"{second}:activate", over=seen)
    unread = await admin.post(f"{second}:activate")

    assert (late.status_code, late.json()["code"]) == (409, "changed_meanwhile")
    assert unread.status_code == 422
    assert (await in_force(api.owner))["version"] == 1


async def test_one_text_is_one_version(api: Api) -> None:
    await drafted(api.owner)

    again = await api.owner.post(POLICIES, json={"yaml": OWN})

    assert (again.status_code, again.json()["code"]) == (409, "version_exists")


async def test_a_policy_with_a_mistake_is_not_even_stored(api: Api) -> None:
    for kind, mistake in MISTAKES.items():
        found = (await api.owner.post(f"{POLICIES}:validate", json={"yaml": mistake.text})).json()["findings"]

        assert any(one["path"] == mistake.path and mistake.reason in one["reason"] for one in found), (kind, found)
    refused = await api.owner.post(POLICIES, json={"yaml": MISTAKES["no price"].text})

    assert (refused.status_code, refused.json()["code"]) == (422, "policy_invalid")
    assert refused.json()["mistakes"][0]["path"] == MISTAKES["no price"].path
    assert (await api.owner.get(POLICIES)).json() == []


async def test_a_policy_without_a_mistake_has_no_findings(api: Api) -> None:
    """Negative control of the check above."""
    path = await drafted(api.owner)

    of_text = (await api.owner.post(f"{POLICIES}:validate", json={"yaml": OWN})).json()
    of_version = (await api.owner.post(f"{path}:validate")).json()

    assert of_text == of_version == {"is_valid": True, "digest": policy_digest(OWN), "findings": []}


async def test_a_policy_names_only_secrets_that_the_platform_lends_for_that_provider(api: Api) -> None:
    for stolen in ("secret://pepper", "secret://openai/default"):
        text = OWN.replace("secret://sandbox_token", stolen)

        refused = await api.owner.post(POLICIES, json={"yaml": text})

        assert refused.status_code == 422
        assert refused.json()["mistakes"][0]["path"] == "deployments.sandbox-large.credential"


async def test_anchors_and_aliases_are_refused_with_their_place(api: Api) -> None:
    text = OWN.replace("objective: balanced\n", "objective: &best balanced\n", 1)

    [mistake] = (await api.owner.post(POLICIES, json={"yaml": text})).json()["mistakes"]

    assert mistake["path"].startswith("line 8, ")
    assert "anchors and aliases" in mistake["reason"]


async def test_only_who_may_edit_steering_does_and_others_do_not_see_it(api: Api) -> None:
    path = await drafted(api.owner)
    developer = api.member(Role.DEVELOPER)

    assert (await api.anonymous.get(POLICIES)).status_code == 401
    assert (await api.member(Role.STAFF).get(POLICIES)).status_code == 403
    assert (await developer.get(path)).status_code == 200
    assert (await developer.post(POLICIES, json={"yaml": NEWER})).status_code == 403
    assert (await change(developer, f"{path}:activate")).status_code == 403
    assert (await api.foreigner.get(path)).status_code == 404
    assert (await change(api.foreigner, f"{path}:activate")).status_code == 404


async def test_every_change_is_audited_with_what_it_replaced(api: Api, admin: httpx.AsyncClient) -> None:
    path = await drafted(api.owner)
    await change(admin, f"{path}:activate")
    await change(api.owner, f"{path}:retire")

    entries = (await api.owner.get("/api/v1/audit")).json()

    told = {one["action"]: one for one in entries if one["action"].startswith("steering.")}
    assert set(told) == {"steering.drafted", "steering.activated", "steering.retired"}
    assert {one["subject"] for one in told.values()} == {"steering_policy/our-own/1"}
    assert told["steering.activated"]["details"]["replaced"] == {"name": "platform", "digest": policy_digest(SHIPPED)}
