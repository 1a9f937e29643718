"""API keys and the audit log over the API, and keys as the gateway will see them."""

import secrets
from uuid import UUID, uuid4

import psycopg
import pytest
from sqlalchemy import event

from auterity_dagster.errors import NotAuthenticated, Unavailable
from auterity_dagster.identity.api_key import ALPHABET, new_key
from auterity_dagster.identity.permission import Permission, Role
from auterity_dagster.serving.authentication import presented_credential
from auterity_dagster.storage.repositories import api_keys
from tests.conftest import DatabaseUrls

KEY = {"name": "website", "scopes": ["gateway.call"], "purposes": ["interactive"]}


async def added_key(api, client=None, **fields: object) -> dict:
    response = await (client or api.owner).post("/api/v1/api-keys", json={**KEY, **fields})
    assert response.status_code == 201, response.text
    return response.json()


async def test_a_foreign_key_does_not_exist(api) -> None:
    key = await added_key(api)

    assert (await api.foreigner.delete(f"/api/v1/api-keys/{key['id']}")).status_code == 404
    assert (await api.foreigner.delete(f"/api/v1/api-keys/{uuid4()}")).status_code == 404
    assert key["id"] not in (await api.foreigner.get("/api/v1/api-keys")).text
    assert (await api.state.authentication.api_key(key["key"])).organization_id == api.organization_id


async def test_a_key_is_shown_once_and_acts_as_declared(api) -> None:
    key = await added_key(api)

    principal = await api.state.authentication.api_key(key["key"])

    assert principal.kind == "api_key"
    assert principal.permissions == {Permission.GATEWAY_CALL}
    assert principal.purposes == {"interactive"}
    assert principal.dealership_ids is None
    listed = await api.owner.get("/api/v1/api-keys")
    assert key["key"] not in listed.text
    assert key["public_id"] in listed.text


async def test_a_key_may_read_where_the_route_admits_keys_and_nowhere_else(api) -> None:
    client = api.client((await added_key(api))["key"])

    assert (await client.get("/api/v1/organization")).json()["name"] == "ours"
    assert (await client.get("/api/v1/api-keys")).status_code == 401
    assert (await client.get("/api/v1/me")).status_code == 401


async def test_a_revoked_key_stops_at_once_and_the_services_keys_cannot_be(api) -> None:
    key = await added_key(api)
    await api.state.authentication.api_key(key["key"])

    assert (await api.owner.delete(f"/api/v1/api-keys/{key['id']}")).status_code == 204

    with pytest.raises(NotAuthenticated):
        await api.state.authentication.api_key(key["key"])
    system = next(found for found in (await api.owner.get("/api/v1/api-keys")).json() if found["is_system"])
    assert (await api.owner.delete(f"/api/v1/api-keys/{system['id']}")).status_code == 409


async def test_an_expired_key_is_refused(api, database_urls: DatabaseUrls) -> None:
    key = await added_key(api, expires_in_days=1)
    with psycopg.connect(database_urls.owner, autocommit=True) as connection:
        connection.execute("UPDATE api_key SET expires_at = now() - interval '1 second' WHERE NOT is_system")

    with pytest.raises(NotAuthenticated):
        await api.state.authentication.api_key(key["key"])


@pytest.mark.parametrize("role", [Role.STAFF, Role.MANAGER, Role.AUDITOR])
async def test_a_role_without_the_right_makes_no_key(api, role: Role) -> None:
    assert (await api.member(role).post("/api/v1/api-keys", json=KEY)).status_code == 403


async def test_nobody_makes_a_key_above_themselves(api) -> None:
    response = await api.member(Role.DEVELOPER).post("/api/v1/api-keys", json={**KEY, "scopes": ["budget.write"]})

    assert response.status_code == 403
    assert response.json()["code"] == "grant_exceeds_own"


async def test_a_key_falls_with_its_maker(api) -> None:
    developer = api.member(Role.DEVELOPER)
    user_id = (await developer.get("/api/v1/me")).json()["id"]
    key = await added_key(api, developer, scopes=["gateway.call", "training.operate"])

    await api.owner.patch(f"/api/v1/users/{user_id}", json={"roles": ["manager"]})
    assert (await api.state.authentication.api_key(key["key"])).permissions == {Permission.GATEWAY_CALL}

    await api.owner.patch(f"/api/v1/users/{user_id}", json={"is_active": False})
    with pytest.raises(NotAuthenticated):
        await api.state.authentication.api_key(key["key"])


@pytest.mark.parametrize(
    "fields",
    [{"purposes": ["workflow"]}, {"scopes": []}, {"scopes": ["everything"]}, {"is_system": True}, {"created_by": None},
     {"expires_in_days": 0}, {"dealership_ids": ["x"]}, {"purposes": ["shadow"]}],
)  # fmt: skip
async def test_a_wrong_key_is_refused(api, fields: dict) -> None:
    assert (await api.owner.post("/api/v1/api-keys", json={**KEY, **fields})).status_code == 422


async def test_a_key_is_limited_to_dealerships_of_its_organization(api) -> None:
    response = await api.owner.post("/api/v1/api-keys", json={**KEY, "dealership_ids": [str(uuid4())]})

    assert response.status_code == 404


async def test_the_services_make_their_keys_again(api) -> None:
    with api.database.begin(api.organization_id) as session:
        key = api_keys.system_key(session, purpose="workflow")

    principal = await api.state.authentication.api_key(key.secret(api.state.pepper))

    assert principal.organization_id == api.organization_id
    assert principal.purposes == {"workflow"}


async def test_malformed_keys_cost_no_query(api) -> None:
    real = (await added_key(api))["key"]
    asked: list[str] = []
    event.listen(
        api.state.database.engine.sync_engine,
        "before_cursor_execute",
        lambda _connection, _cursor, statement, *_rest: asked.append(statement),
    )

    for position in range(5000):
        mutant = list(real)
        mutant[position % len(real)] = secrets.choice(ALPHABET + "-\n\x00é ")
        text = "".join(mutant) if position % 3 else secrets.token_urlsafe(position % 97)
        if text == real:
            continue
        with pytest.raises(NotAuthenticated):
            await api.state.authentication.api_key(text)

    assert asked == []
    with pytest.raises(NotAuthenticated):
        await api.state.authentication.api_key(new_key("live", public_id=real.split("_")[2]))
    assert any("find_api_key" in statement for statement in asked)  # negative control: the listener sees queries


async def test_no_key_is_in_the_database(api, database_urls: DatabaseUrls) -> None:
    secret = (await added_key(api))["key"]

    with psycopg.connect(database_urls.owner) as connection:
        rows = str(connection.execute("SELECT k::text FROM api_key k").fetchall())
        rows += str(connection.execute("SELECT a::text FROM audit_entry a").fetchall())

    assert secret.split("_")[2] in rows  # negative control: the scan reads the rows
    assert secret.split("_")[3] not in rows
    assert secret.encode().hex() not in rows


async def test_a_database_that_is_away_is_no_wrong_key(api) -> None:
    key = (await added_key(api))["key"]
    await api.state.database.close()
    event.listen(api.state.database.engine.sync_engine, "do_connect", _refuse)

    with pytest.raises(Unavailable):
        await api.state.authentication.api_key(key)


def _refuse(*_arguments: object) -> None:
    raise psycopg.OperationalError("the server is gone")


@pytest.mark.parametrize(
    ("authorization", "x_api_key", "expected"),
    [
        ("Bearer abc", None, "abc"),
        ("bearer  abc ", None, "abc"),
        (None, "abc", "abc"),
        ("Bearer abc", "other", "abc"),
    ],
)
def test_a_credential_is_found_where_clients_put_it(authorization, x_api_key, expected: str) -> None:
    assert presented_credential(authorization, x_api_key=x_api_key) == expected


@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Bearer ", "Basic abc", "abc"])
def test_no_credential_is_refused(authorization: str | None) -> None:
    with pytest.raises(NotAuthenticated):
        presented_credential(authorization)


async def test_the_audit_log_is_each_organizations_own(api) -> None:
    await added_key(api)

    theirs = (await api.foreigner.get("/api/v1/audit")).json()
    ours = (await api.owner.get("/api/v1/audit", params={"limit": 1})).json()

    assert [entry["action"] for entry in theirs] == ["organization.created"]
    assert [entry["action"] for entry in ours] == ["api_key.added"]
    assert UUID(ours[0]["actor_id"]) == api.owner_id
    older = (await api.owner.get("/api/v1/audit", params={"before": ours[0]["sequence"]})).json()
    assert [entry["action"] for entry in older] == ["organization.created"]


async def test_the_audit_log_is_checked_against_a_noted_head(api, database_urls: DatabaseUrls) -> None:
    await added_key(api)
    auditor = api.member(Role.AUDITOR)
    head = (await auditor.get("/api/v1/audit/verify")).json()
    noted = {"noted_sequence": head["head_sequence"], "noted_hash": head["head_hash"]}
    with psycopg.connect(database_urls.owner, autocommit=True) as connection:
        connection.execute("ALTER TABLE audit_entry DISABLE TRIGGER append_only")
        connection.execute("DELETE FROM audit_entry WHERE action = 'api_key.added'")

    without = (await auditor.get("/api/v1/audit/verify")).json()
    against = (await auditor.get("/api/v1/audit/verify", params=noted)).json()

    assert head["is_intact"]
    assert without["is_intact"]
    assert not against["is_intact"]
    assert against["broken_sequence"] == head["head_sequence"]


async def test_a_role_without_the_right_reads_no_audit_log(api) -> None:
    assert (await api.member(Role.MANAGER).get("/api/v1/audit")).status_code == 403
