"""The API shows what can be called and what was asked, to those who may see it."""

import pytest

from auterity_dagster.identity.permission import Role
from auterity_dagster.relaycore.quality import QualityEvidence
from auterity_dagster.storage.repositories.routing import record_quality
from tests.serving.conftest import Api


async def test_deployments_are_listed_with_what_evaluation_says_of_them(api: Api) -> None:
    evidence = QualityEvidence(
        api.organization_id, "lead_reply", "provider:sandbox/sandbox-small", "evaluation", 50, 0.9
    )
    with api.database.begin(api.organization_id) as session:
        record_quality(session, evidence)

    listed = {one["id"]: one for one in (await api.owner.get("/api/v1/deployments")).json()}
    foreign = {one["id"]: one for one in (await api.foreigner.get("/api/v1/deployments")).json()}

    [known] = listed["sandbox-small"]["quality"]
    assert (known["task"], known["items"]) == ("lead_reply", 50)
    assert 0.7 < known["lower_bound"] < 0.9
    assert foreign["sandbox-small"]["quality"] == []


@pytest.mark.parametrize("path", ["/api/v1/deployments", "/api/v1/requests"])
async def test_nobody_is_shown_anything_without_signing_in(api: Api, path: str) -> None:
    assert (await api.anonymous.get(path)).status_code == 401


async def test_requests_need_the_permission_to_read_usage(api: Api) -> None:
    async with api.member(Role.STAFF) as staff:
        refused = await staff.get("/api/v1/requests")

    assert refused.status_code == 403
    assert (await api.owner.get("/api/v1/requests")).json() == []
    assert (await api.owner.get(f"/api/v1/requests/{api.owner_id}")).status_code == 404


async def test_a_deployment_is_switched_off_and_narrowed_on_top_of_what_was_read(api: Api) -> None:
    path = "/api/v1/deployments/sandbox-small"

    off = await api.owner.put(path, json={"is_off": True, "note": "wrong answers"}, headers={"if-match": "0"})
    late = await api.owner.put(path, json={"is_off": False}, headers={"if-match": '"0"'})
    share = await api.owner.put(path, json={"is_off": False, "weight_percent": 10}, headers={"if-match": '"1"'})
    ours, theirs = [
        next(one for one in (await client.get("/api/v1/deployments")).json() if one["id"] == "sandbox-small")
        for client in (api.owner, api.foreigner)
    ]

    assert (off.json()["is_off"], off.json()["note"], off.json()["version"]) == (True, "wrong answers", 1)
    assert (late.status_code, late.json()["code"]) == (409, "changed_meanwhile")
    assert share.status_code == 200
    assert (ours["is_off"], ours["weight_percent"], ours["version"]) == (False, 10, 2)
    assert (theirs["is_off"], theirs["weight_percent"], theirs["version"]) == (False, 100, 0)
    actions = [one["action"] for one in (await api.owner.get("/api/v1/audit")).json()]
    assert actions.count("deployment.set") == 2


async def test_only_who_may_edit_deployments_does(api: Api) -> None:
    wanted, headers = {"is_off": True}, {"if-match": "0"}
    path = "/api/v1/deployments/sandbox-small"

    async with api.member(Role.DEVELOPER) as developer:
        assert (await developer.put(path, json=wanted, headers=headers)).status_code == 403
    unknown = await api.owner.put("/api/v1/deployments/neuroweaver/none", json=wanted, headers=headers)
    assert unknown.status_code == 404
