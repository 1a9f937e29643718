"""Signing in, refreshing and signing out over the API."""

import asyncio
from collections import Counter
from typing import Any

import psycopg
import pytest

from tests.conftest import DatabaseUrls

SIGN_IN = {"email": "owner@ours.test", "password": "a long walk by the river"}


async def signed_in(api, **extra: Any) -> dict[str, Any]:
    response = await api.anonymous.post("/api/v1/auth/login", json={**SIGN_IN, "refresh_token_in": "body", **extra})
    assert response.status_code == 200, response.text
    return response.json()


async def refreshed(api, token: str):
    return await api.anonymous.post("/api/v1/auth/refresh", json={"refresh_token": token})


def age_used_tokens(urls: DatabaseUrls) -> None:
    """Let the grace pass, by the database's clock."""
    with psycopg.connect(urls.owner, autocommit=True) as connection:
        connection.execute("UPDATE refresh_token SET used_at = used_at - interval '21 seconds'")


async def test_nobody_is_nobody(api) -> None:
    response = await api.anonymous.get("/api/v1/me")

    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"
    assert response.json()["code"] == "not_authenticated"


async def test_address_and_password_give_tokens_that_work(api) -> None:
    tokens = await signed_in(api)

    me = await api.client(tokens["access_token"]).get("/api/v1/me")

    assert me.json()["email"] == "owner@ours.test"
    assert me.json()["organization_name"] == "ours"
    assert "organization.manage" in me.json()["permissions"]


async def test_a_browser_gets_the_refresh_token_as_a_cookie_only(api) -> None:
    response = await api.anonymous.post("/api/v1/auth/login", json=SIGN_IN)

    cookie = response.headers["set-cookie"]
    assert response.json()["refresh_token"] is None
    assert cookie.startswith("__Host-auterity_refresh=autr_")
    for attribute in ("HttpOnly", "Secure", "SameSite=strict", "Path=/"):
        assert attribute in cookie
    assert "Domain" not in cookie


async def test_the_cookie_refreshes_from_our_own_pages_only(api) -> None:
    await api.anonymous.post("/api/v1/auth/login", json=SIGN_IN)

    from_elsewhere = await api.anonymous.post("/api/v1/auth/refresh", headers={"sec-fetch-site": "cross-site"})
    from_here = await api.anonymous.post("/api/v1/auth/refresh", headers={"sec-fetch-site": "same-origin"})

    assert from_elsewhere.status_code == 401
    assert from_here.status_code == 200


async def test_a_wrong_password_and_an_unknown_address_are_answered_alike(api) -> None:
    wrong = await api.anonymous.post("/api/v1/auth/login", json={**SIGN_IN, "password": "not the river at all"})
    unknown = await api.anonymous.post("/api/v1/auth/login", json={**SIGN_IN, "email": "nobody@ours.test"})

    assert wrong.status_code == unknown.status_code == 401
    assert wrong.json() == unknown.json()


@pytest.mark.parametrize("email", ["owner@ours.test", "nobody@ours.test"])
async def test_the_sixth_guess_has_to_wait_also_for_an_unknown_address(api, email: str) -> None:
    guess = {"email": email, "password": "not the river at all"}

    answers = await asyncio.gather(*(api.anonymous.post("/api/v1/auth/login", json=guess) for _ in range(8)))
    right = await api.anonymous.post("/api/v1/auth/login", json={**SIGN_IN, "email": email})

    assert Counter(answer.status_code for answer in answers) == {401: 5, 429: 3}
    assert right.status_code == 429
    assert 0 < int(right.headers["retry-after"]) <= 31


async def test_signing_in_forgets_earlier_failures(api) -> None:
    for _ in range(2):
        for _ in range(4):
            await api.anonymous.post("/api/v1/auth/login", json={**SIGN_IN, "password": "not the river at all"})

        assert (await signed_in(api))["access_token"]


async def test_a_sign_in_with_an_unknown_field_is_refused_without_its_password(api) -> None:
    response = await api.anonymous.post("/api/v1/auth/login", json={**SIGN_IN, "is_admin": True})

    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == "is_admin"
    assert SIGN_IN["password"] not in response.text


async def test_ten_concurrent_refreshes_get_one_successor(api) -> None:
    token = (await signed_in(api))["refresh_token"]

    answers = await asyncio.gather(*(refreshed(api, token) for _ in range(10)))

    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["refresh_token"] for answer in answers}) == 1
    assert answers[0].json()["refresh_token"] != token


async def test_a_replayed_token_ends_the_whole_family(api, database_urls: DatabaseUrls) -> None:
    first = (await signed_in(api))["refresh_token"]
    second = (await refreshed(api, first)).json()["refresh_token"]
    age_used_tokens(database_urls)

    replayed = await refreshed(api, first)
    successor = await refreshed(api, second)

    assert replayed.status_code == successor.status_code == 401
    audit = await api.owner.get("/api/v1/audit")
    assert "session.replayed" in [entry["action"] for entry in audit.json()]


async def test_another_sign_in_survives_the_replay(api, database_urls: DatabaseUrls) -> None:
    other = (await signed_in(api))["refresh_token"]
    stolen = (await signed_in(api))["refresh_token"]
    await refreshed(api, stolen)
    age_used_tokens(database_urls)

    await refreshed(api, stolen)

    assert (await refreshed(api, other)).status_code == 200


@pytest.mark.parametrize("column", ["expires_at", "family_expires_at"])
async def test_an_idle_or_old_session_has_ended(api, database_urls: DatabaseUrls, column: str) -> None:
    token = (await signed_in(api))["refresh_token"]
    with psycopg.connect(database_urls.owner, autocommit=True) as connection:
        connection.execute(f"UPDATE refresh_token SET {column} = now() - interval '1 second'".encode())

    assert (await refreshed(api, token)).status_code == 401


async def test_signing_out_ends_the_session(api) -> None:
    token = (await signed_in(api))["refresh_token"]

    out = await api.anonymous.post("/api/v1/auth/logout", json={"refresh_token": token})

    assert out.status_code == 204
    assert (await refreshed(api, token)).status_code == 401


@pytest.mark.parametrize("token", ["", "autr_", "autr_" + "0" * 43, "autr_" + "0" * 42 + "\n", "x" * 128, "ö"])
async def test_what_is_no_refresh_token_is_refused(api, token: str) -> None:
    assert (await refreshed(api, token)).status_code == 401


async def test_no_refresh_token_is_in_the_database(api, database_urls: DatabaseUrls) -> None:
    token = (await signed_in(api))["refresh_token"]
    successor = (await refreshed(api, token)).json()["refresh_token"]

    with psycopg.connect(database_urls.owner) as connection:
        rows = str(connection.execute("SELECT t::text FROM refresh_token t").fetchall())

    assert rows.count("\\\\x") >= 2
    for secret in (token, successor):
        assert secret not in rows
        assert secret.encode().hex() not in rows


async def test_a_switched_off_user_is_out_within_seconds(api) -> None:
    await api.owner.post(
        "/api/v1/users",
        json={"email": "m@ours.test", "name": "M", "password": SIGN_IN["password"], "roles": ["admin"]},
    )
    tokens = await signed_in(api, email="m@ours.test")
    member = api.client(tokens["access_token"])
    user_id = (await member.get("/api/v1/me")).json()["id"]

    await api.owner.patch(f"/api/v1/users/{user_id}", json={"is_active": False})
    api.clock.advance(6)

    assert (await member.get("/api/v1/me")).status_code == 401
    assert (await refreshed(api, tokens["refresh_token"])).status_code == 401
    again = await api.anonymous.post("/api/v1/auth/login", json={**SIGN_IN, "email": "m@ours.test"})
    assert again.status_code == 401
