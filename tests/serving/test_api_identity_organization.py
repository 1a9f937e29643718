"""Dealerships, users and their roles over the API: anonymous and foreign callers first."""

import re
from uuid import UUID, uuid4

import pytest

from auterity_dagster.identity.permission import ROLE_PERMISSIONS, Permission, Role
from auterity_dagster.serving.declared_router import declarations

HOUSTON = {"name": "Houston North", "time_zone": "America/Chicago", "city": "Houston", "region": "TX"}
MEMBER = {"email": "m@ours.test", "name": "M", "password": "seven green bottles", "roles": ["staff"]}


async def added_dealership(api, **details: str) -> str:
    response = await api.owner.post("/api/v1/dealerships", json={**HOUSTON, **details})
    assert response.status_code == 201, response.text
    return response.json()["id"]


async def added_member(api, **fields: object) -> str:
    response = await api.owner.post("/api/v1/users", json={**MEMBER, **fields})
    assert response.status_code == 201, response.text
    return response.json()["id"]


async def test_every_route_that_is_not_public_refuses_an_anonymous_caller(api) -> None:
    asked = 0
    for path, methods, declaration in declarations(api.app):
        if declaration is None or declaration.authentication not in ("user", "api_key", "user_or_api_key"):
            continue
        if methods == "WEBSOCKET":
            continue
        for method in methods.split():
            concrete = re.sub(r"{[^}]+}", lambda _: str(uuid4()), path)
            response = await api.anonymous.request(method, concrete, content=b"not even json")
            assert response.status_code == 401, (method, path)
            asked += 1

    assert asked >= 14


async def test_a_foreign_dealership_does_not_exist(api) -> None:
    dealership_id = await added_dealership(api)
    path = f"/api/v1/dealerships/{dealership_id}"

    foreign = await api.foreigner.get(path)
    missing = await api.foreigner.get(f"/api/v1/dealerships/{uuid4()}")
    changed = await api.foreigner.put(path, json=HOUSTON)

    assert foreign.status_code == missing.status_code == changed.status_code == 404
    assert foreign.content == missing.content
    assert (await api.foreigner.get("/api/v1/dealerships")).json() == []


async def test_a_foreign_user_does_not_exist(api) -> None:
    response = await api.foreigner.patch(f"/api/v1/users/{api.owner_id}", json={"roles": ["staff"]})

    assert response.status_code == 404
    assert [user["id"] for user in (await api.foreigner.get("/api/v1/users")).json()] == [str(api.foreign_owner_id)]


async def test_a_foreign_dealership_limits_nobody(api) -> None:
    theirs = (await api.foreigner.post("/api/v1/dealerships", json=HOUSTON)).json()["id"]

    response = await api.owner.post("/api/v1/users", json={**MEMBER, "dealership_ids": [theirs]})

    assert response.status_code == 404


async def test_a_dealership_is_added_changed_and_read(api) -> None:
    dealership_id = await added_dealership(api)
    path = f"/api/v1/dealerships/{dealership_id}"

    await api.owner.put(path, json={**HOUSTON, "name": "Houston South"})

    assert (await api.owner.get(path)).json()["name"] == "Houston South"
    assert (await api.owner.get("/api/v1/organization")).json()["name"] == "ours"


@pytest.mark.parametrize(
    ("fields", "status", "named"),
    [
        ({"time_zone": "Mars/Olympus"}, 422, "time_zone"),
        ({"name": ""}, 422, "name"),
        ({"organization_id": str(uuid4())}, 422, "organization_id"),
        ({"country": "usa"}, 422, "country"),
    ],
)
async def test_a_wrong_dealership_is_refused_by_field(api, fields, status: int, named: str) -> None:
    response = await api.owner.post("/api/v1/dealerships", json={**HOUSTON, **fields})

    assert response.status_code == status
    assert named in response.text


async def test_two_dealerships_do_not_share_a_name_in_one_organization(api) -> None:
    await added_dealership(api)

    again = await api.owner.post("/api/v1/dealerships", json=HOUSTON)
    elsewhere = await api.foreigner.post("/api/v1/dealerships", json=HOUSTON)

    assert again.status_code == 409
    assert elsewhere.status_code == 201


async def test_a_limited_member_sees_their_dealerships_only(api) -> None:
    mine, other = await added_dealership(api), await added_dealership(api, name="Other")
    member = api.member(Role.STAFF, dealership_ids=frozenset({UUID(mine)}))

    listed = await member.get("/api/v1/dealerships")

    assert [found["id"] for found in listed.json()] == [mine]
    assert (await member.get(f"/api/v1/dealerships/{other}")).status_code == 404


@pytest.mark.parametrize(
    ("actor", "role", "status"),
    [
        (Role.OWNER, Role.OWNER, 201),
        (Role.ADMIN, Role.OWNER, 403),
        (Role.ADMIN, Role.ADMIN, 201),
        (Role.MANAGER, Role.STAFF, 403),
        (Role.DEVELOPER, Role.STAFF, 403),
        (Role.AUDITOR, Role.AUDITOR, 403),
    ],
)
async def test_nobody_makes_a_user_above_themselves(api, actor: Role, role: Role, status: int) -> None:
    client = api.member(actor)

    response = await client.post("/api/v1/users", json={**MEMBER, "roles": [role]})

    assert response.status_code == status, response.text


async def test_an_admin_changes_no_owner(api) -> None:
    response = await api.member(Role.ADMIN).patch(f"/api/v1/users/{api.owner_id}", json={"is_active": False})

    assert response.status_code == 403
    assert response.json()["code"] == "grant_exceeds_own"


async def test_a_limited_admin_grants_no_more_dealerships_than_their_own(api) -> None:
    mine, other = await added_dealership(api), await added_dealership(api, name="Other")
    admin = api.member(Role.ADMIN, dealership_ids=frozenset({UUID(mine)}))

    everywhere = await admin.post("/api/v1/users", json=MEMBER)
    elsewhere = await admin.post("/api/v1/users", json={**MEMBER, "dealership_ids": [other]})
    here = await admin.post("/api/v1/users", json={**MEMBER, "dealership_ids": [mine]})

    assert [everywhere.status_code, elsewhere.status_code, here.status_code] == [403, 403, 201]
    assert (await admin.post("/api/v1/dealerships", json={**HOUSTON, "name": "New"})).status_code == 403


async def test_nobody_changes_their_own_roles(api) -> None:
    response = await api.owner.patch(f"/api/v1/users/{api.owner_id}", json={"roles": ["owner"]})

    assert response.status_code == 409


async def test_what_a_change_leaves_out_stays(api) -> None:
    mine = await added_dealership(api)
    user_id = await added_member(api, dealership_ids=[mine])

    changed = await api.owner.patch(f"/api/v1/users/{user_id}", json={"roles": ["manager"]})

    assert changed.json()["roles"] == ["manager"]
    assert changed.json()["dealership_ids"] == [mine]
    assert changed.json()["is_active"] is True


@pytest.mark.parametrize(
    "field",
    ["id", "organization_id", "password_hash", "session_epoch", "created_at", "permissions", "email", "name"],
)
@pytest.mark.parametrize("role", [Role.OWNER, Role.ADMIN, Role.STAFF])
async def test_no_role_writes_a_field_that_is_not_offered(api, role: Role, field: str) -> None:
    user_id = await added_member(api)

    response = await api.member(role).patch(f"/api/v1/users/{user_id}", json={field: "x"})

    assert response.status_code in (403, 422)
    assert (await api.owner.get("/api/v1/users")).json()[0]["name"] == "M"


async def test_a_taken_address_is_refused_even_if_a_stranger_has_it(api) -> None:
    response = await api.owner.post("/api/v1/users", json={**MEMBER, "email": "Owner@Theirs.test"})

    assert response.status_code == 409
    assert response.json()["code"] == "email_taken"


@pytest.mark.parametrize("password", ["short", "Password1234!", "aaaaaaaaaaaaaaaa", "abcabcabcabc"])
async def test_an_easy_password_is_refused_and_not_repeated(api, password: str) -> None:
    response = await api.owner.post("/api/v1/users", json={**MEMBER, "password": password})

    assert response.status_code == 422
    assert password not in response.text


async def test_a_lost_role_is_lost_within_seconds(api) -> None:
    await added_dealership(api)
    admin = api.member(Role.ADMIN, email="falling@ours.test")
    admin_id = (await admin.get("/api/v1/me")).json()["id"]

    await api.owner.patch(f"/api/v1/users/{admin_id}", json={"roles": ["staff"]})
    api.clock.advance(6)

    assert (await admin.get("/api/v1/users")).status_code == 403


async def test_every_declared_change_is_in_the_audit_log(api) -> None:
    dealership_id = await added_dealership(api)
    await api.owner.put(f"/api/v1/dealerships/{dealership_id}", json=HOUSTON)
    user_id = await added_member(api)
    await api.owner.patch(f"/api/v1/users/{user_id}", json={"roles": ["auditor"]})

    entries = (await api.owner.get("/api/v1/audit")).json()

    assert [entry["action"] for entry in entries] == [
        "user.changed",
        "user.added",
        "dealership.changed",
        "dealership.added",
        "organization.created",
    ]
    assert MEMBER["email"] not in str(entries)


def test_only_an_owner_has_every_permission() -> None:
    assert [role for role in Role if ROLE_PERMISSIONS[role] == frozenset(Permission)] == [Role.OWNER]
