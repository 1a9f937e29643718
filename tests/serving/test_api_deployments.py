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
