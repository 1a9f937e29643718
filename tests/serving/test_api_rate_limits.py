"""Rate limits over the API: set, listed, lifted; never for what another organization has."""

from uuid import uuid4

from auterity_dagster.identity.permission import Role
from tests.serving.conftest import Api

LIMITS = "/api/v1/rate-limits"


async def test_a_limit_is_set_replaced_listed_and_lifted(api: Api) -> None:
    path = f"{LIMITS}/organization/{api.organization_id}"

    first = await api.owner.put(path, json={"requests_per_minute": 60})
    second = await api.owner.put(path, json={"requests_per_minute": 30, "tokens_per_minute": 50_000})
    listed = (await api.owner.get(LIMITS)).json()
    lifted = await api.owner.delete(path)

    assert (first.status_code, second.status_code, lifted.status_code) == (200, 200, 204)
    assert listed == [second.json()]
    assert (await api.owner.get(LIMITS)).json() == []
    assert (await api.owner.delete(path)).status_code == 404


async def test_a_limit_needs_a_subject_of_ones_own(api: Api) -> None:
    for scope, subject in (("organization", api.foreign_organization_id), ("key", uuid4()), ("dealership", uuid4())):
        answer = await api.owner.put(f"{LIMITS}/{scope}/{subject}", json={"requests_per_minute": 1})

        assert answer.status_code == 404


async def test_a_limit_limits_something_and_is_a_positive_number(api: Api) -> None:
    path = f"{LIMITS}/organization/{api.organization_id}"

    for body in ({}, {"requests_per_minute": 0}, {"tokens_per_minute": -1}, {"requests_per_minute": 10**10}):
        assert (await api.owner.put(path, json=body)).status_code == 422


async def test_only_those_who_may_change_budgets_change_limits(api: Api) -> None:
    path = f"{LIMITS}/organization/{api.organization_id}"
    async with api.member(Role.MANAGER) as manager:
        refused = await manager.put(path, json={"requests_per_minute": 1})
        listed = await manager.get(LIMITS)

    assert (refused.status_code, listed.status_code) == (403, 200)
    assert (await api.anonymous.get(LIMITS)).status_code == 401
