"""Training runs are asked for once at a time, with a budget; consents are given, revoked and followed by a request."""

from datetime import timedelta
from uuid import UUID

from auterity_dagster.identity.permission import Role
from auterity_dagster.storage.repositories import dataset_versions
from auterity_dagster.storage.repositories.gate_verdicts import add_verdict
from auterity_dagster.storage.tables.specialisation import GateVerdictRow
from tests.serving.conftest import Api

RUNS, CONSENTS = "/api/v1/neuroweaver/training-runs", "/api/v1/neuroweaver/consents"
WISH = {"recipe": "smollm2_cpu_qlora", "budget_usd": "0.50", "note": "autumn stock"}


async def test_one_run_of_a_scope_is_open_at_a_time(api: Api) -> None:
    async with api.member(Role.STAFF) as staff, api.member(Role.DEVELOPER) as developer:
        forbidden = await staff.post(RUNS, json=WISH)
        opened = await developer.post(RUNS, json=WISH)
    second = await api.owner.post(RUNS, json=WISH)
    found = await api.owner.get(f"{RUNS}/{opened.json()['id']}")
    foreign = await api.foreigner.get(f"{RUNS}/{opened.json()['id']}")
    cancelled = await api.owner.post(f"{RUNS}/{opened.json()['id']}:cancel")
    twice = await api.owner.post(f"{RUNS}/{opened.json()['id']}:cancel")
    unknown = await api.owner.post(RUNS, json={**WISH, "recipe": "no_such_recipe"})

    assert forbidden.status_code == 403
    assert (opened.status_code, opened.json()["budget_nusd"], opened.json()["state"]) == (201, 500_000_000, "open")
    assert (second.status_code, second.json()["code"]) == (409, "retrain_open")
    assert found.json()["evidence"] == {"note": "autumn stock"}
    assert foreign.status_code == 404
    assert (cancelled.json()["state"], twice.status_code) == ("cancelled", 409)
    assert (unknown.status_code, unknown.json()["field"]) == (422, "recipe")


async def test_runs_are_listed_in_pages_and_a_reason_that_can_wait_waits(api: Api) -> None:
    for _ in range(3):
        made = await api.owner.post(RUNS, json=WISH)
        await api.owner.post(f"{RUNS}/{made.json()['id']}:cancel")
        api.clock.advance(60)

    soon = await api.owner.post(RUNS, json={**WISH, "reason": "drift"})
    first = (await api.owner.get(RUNS, params={"limit": 2})).json()
    rest = (await api.owner.get(RUNS, params={"limit": 2, "after": first["next"]})).json()
    api.clock.advance(7 * 86_400)
    token = api.state.access_tokens.issue(api.owner_id, organization_id=api.organization_id, epoch=0)
    async with api.client(token) as signed_in_again:
        later = await signed_in_again.post(RUNS, json={**WISH, "reason": "drift"})

    assert (soon.status_code, soon.json()["code"]) == (409, "retrain_cool_down")
    assert (len(first["training_runs"]), len(rest["training_runs"]), rest["next"]) == (2, 1, None)
    assert later.status_code == 201


async def test_a_revoked_consent_asks_for_training_without_its_rows_and_names_who_saw_them(api: Api) -> None:
    given = (await api.owner.post(CONSENTS, json={"text_version": "2026-11"})).json()
    scope = f"o-{api.organization_id.hex[:8]}"
    with api.database.begin(api.organization_id) as session:
        made = dataset_versions.NewVersion(
            organization_id=api.organization_id,
            scope=scope,
            dataset_digest="d1",
            rows_digest="r1",
            rows=10,
            card={},
            consent_ids=[UUID(given["id"])],
            drift=None,
            report_digest="p1",
        )
        assert dataset_versions.record_version(session, made) == 1
        verdict = GateVerdictRow(
            organization_id=api.organization_id,
            verdict_digest="v1",
            artefact_digest="a1",
            scope=scope,
            outcome="PASS",
            profile="embedded",
            champion_digest="none",
            report_digest="r",
            dataset_digest="d1",
            reasons=[],
            decided_at=api.clock.now(),
            expires_at=api.clock.now() + timedelta(days=14),
        )
        add_verdict(session, verdict)

    async with api.member(Role.DEVELOPER) as developer:
        forbidden = await developer.post(f"{CONSENTS}/{given['id']}:revoke")
    revoked = await api.owner.post(f"{CONSENTS}/{given['id']}:revoke")
    twice = await api.owner.post(f"{CONSENTS}/{given['id']}:revoke")
    [run] = (await api.owner.get(RUNS)).json()["training_runs"]
    [version] = (await api.owner.get(f"/api/v1/neuroweaver/scopes/{scope}/datasets")).json()

    assert forbidden.status_code == 403
    assert (revoked.status_code, revoked.json()["revoked_by"]) == (200, str(api.owner_id))
    assert twice.status_code == 409
    assert (run["reason"], run["evidence"]["artefacts"]) == ("consent_revoked", ["a1"])
    assert version["consent_ids"] == [given["id"]]
    assert (await api.foreigner.get(CONSENTS)).json() == []
