"""Promotion by two people, canaries, rollback, pins: over the API, audited, and closed to those who may not."""

from sqlalchemy import select

from auterity_dagster.identity.permission import Role
from auterity_dagster.storage.tables.identity import AuditEntryRow
from tests.serving.conftest import Api
from tests.storage.serving_scopes import SCOPE, Scope, digest, served

PATH = f"/api/v1/neuroweaver/scopes/{SCOPE}"


def scope_of(api: Api) -> Scope:
    return Scope(api.database, api.organization_id)


def promotion(letter: str, *, weight_percent: int = 100, seen: str | None = None) -> dict[str, object]:
    return {
        "to_digest": digest(letter),
        "expected_digest": seen and digest(seen),
        "weight_percent": weight_percent,
        "reason": "better on lead replies",
    }


def audited(api: Api) -> list[str]:
    with api.database.begin(api.organization_id) as session:
        return list(session.scalars(select(AuditEntryRow.action).order_by(AuditEntryRow.sequence)))


async def test_all_of_the_traffic_takes_two_people_and_what_both_saw(api: Api) -> None:
    scope = scope_of(api)
    scope.release("ab")
    async with api.member(Role.ADMIN) as second:
        asked = await api.owner.post(f"{PATH}:promote", json=promotion("a"))
        waiting = asked.json()["waiting_promotion"]
        again = await second.post(f"{PATH}:promote", json=promotion("b"))
        alone = await api.owner.post(f"/api/v1/neuroweaver/promotions/{waiting}:approve")
        foreign = await api.foreigner.post(f"/api/v1/neuroweaver/promotions/{waiting}:approve")
        before = served(scope)
        agreed = await second.post(f"/api/v1/neuroweaver/promotions/{waiting}:approve")
        twice = await second.post(f"/api/v1/neuroweaver/promotions/{waiting}:approve")

    assert (asked.status_code, asked.json()["current_digest"]) == (200, None)
    assert (again.status_code, again.json()["code"]) == (409, "promotion_open")
    assert (alone.status_code, alone.json()["code"]) == (403, "second_person_needed")
    assert foreign.status_code == 404
    assert before == {}
    assert (agreed.status_code, agreed.json()["state"]) == (200, "approved")
    assert twice.status_code == 409
    assert served(scope) == {"champion": ("a", 100)}
    assert [one for one in audited(api) if one.startswith("promotion")] == ["promotion.requested", "promotion.approved"]


async def test_a_promotion_that_was_overtaken_switches_nothing(api: Api) -> None:
    scope = scope_of(api)
    scope.release("ab")
    waiting = (await api.owner.post(f"{PATH}:promote", json=promotion("a"))).json()["waiting_promotion"]
    scope.switch(None, "b", key="meanwhile")

    async with api.member(Role.ADMIN) as second:
        late = await second.post(f"/api/v1/neuroweaver/promotions/{waiting}:approve")
        listed = (await second.get("/api/v1/neuroweaver/promotions")).json()
        turned_down = await second.post(f"/api/v1/neuroweaver/promotions/{waiting}:reject")

    assert late.status_code == 409
    assert [one["state"] for one in listed] == ["open"]
    assert turned_down.json()["state"] == "rejected"
    assert served(scope) == {"champion": ("b", 100)}


async def test_a_canary_rises_at_once_and_a_rollback_ends_it_for_good(api: Api) -> None:
    scope = scope_of(api)
    scope.release("a")
    scope.switch(None, "a", key="1")
    scope.release("b")

    canary = await api.owner.post(f"{PATH}:promote", json=promotion("b", weight_percent=5, seen="a"))
    shared = served(scope)
    back = await api.owner.post(f"{PATH}:rollback", json={"expected_digest": digest("a"), "reason": "wrong hours"})
    again = await api.owner.post(f"{PATH}:promote", json=promotion("b", weight_percent=5, seen="a"))
    switches = (await api.owner.get(f"{PATH}/switches", params={"limit": 2})).json()
    older = (await api.owner.get(f"{PATH}/switches", params={"before": switches[-1]["sequence"]})).json()
    versions = (await api.owner.get(f"{PATH}/versions")).json()
    [listed] = (await api.owner.get("/api/v1/neuroweaver/scopes")).json()

    assert (canary.status_code, shared) == (200, {"champion": ("a", 100), "challenger": ("b", 5)})
    assert (back.status_code, back.json()["quarantined"]) == (200, [digest("b")])
    assert served(scope) == {"champion": ("a", 100)}
    assert (again.status_code, again.json()["code"]) == (409, "quarantined")
    assert [one["state"] for one in switches] == ["rolled_back", "canary"]
    assert [one["sequence"] for one in older] == [1]
    assert {one["artefact_digest"] for one in versions} == {digest("a"), digest("b")}
    assert listed["current_digest"] == digest("a")


async def test_what_a_verdict_does_not_allow_and_who_may_not_ask_is_refused(api: Api) -> None:
    scope = scope_of(api)
    scope.release("a", may_route="25 percent")
    async with api.member(Role.STAFF) as staff, api.member(Role.DEVELOPER) as developer:
        whole = await api.owner.post(f"{PATH}:promote", json=promotion("a"))
        unknown = await api.owner.post(f"{PATH}:promote", json=promotion("f", weight_percent=1))
        forbidden = await staff.post(f"{PATH}:promote", json=promotion("a", weight_percent=1))
        read = await staff.get("/api/v1/neuroweaver/scopes")
        allowed = await developer.post(f"{PATH}:promote", json=promotion("a", weight_percent=1))
        stale = await developer.post(f"{PATH}:promote", json=promotion("a", weight_percent=5, seen="c"))
    scope.judge("a", "FAIL", later_s=1)
    closed = await api.owner.post(f"{PATH}:promote", json=promotion("a", weight_percent=5))

    assert (whole.status_code, whole.json()["code"]) == (422, "invalid_request")
    assert unknown.status_code == 404
    assert forbidden.status_code == 403
    assert read.status_code == 200
    assert allowed.status_code == 200
    assert stale.status_code == 409
    assert (closed.status_code, closed.json()["code"]) == (403, "gate_closed")
    assert (await api.anonymous.get("/api/v1/neuroweaver/scopes")).status_code == 401


async def test_a_demo_model_takes_one_person_and_a_pin_keeps_automation_away(api: Api) -> None:
    scope = scope_of(api)
    scope.release("ab", may_route="demo organizations")
    unpinnable = await api.owner.put(f"{PATH}/pin", json={"is_pinned": True})

    promoted = await api.owner.post(f"{PATH}:promote", json=promotion("a"))
    pinned = await api.owner.put(f"{PATH}/pin", json={"is_pinned": True})
    nothing_before = await api.owner.post(
        f"{PATH}:rollback", json={"expected_digest": digest("b"), "reason": "not what serves"}
    )
    base = await api.owner.post(f"{PATH}:rollback", json={"expected_digest": digest("a"), "reason": "base again"})

    assert unpinnable.status_code == 404
    assert promoted.json()["current_digest"] == digest("a")
    assert pinned.json()["pinned_by"] == str(api.owner_id)
    assert nothing_before.status_code == 409
    assert (base.status_code, base.json()["current_digest"]) == (200, None)
    assert served(scope) == {}
