"""Access tokens: every forgery in the corpus is refused, whatever part of it is forged."""

import base64
import json
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from auterity_dagster.errors import ConfigurationInvalid, NotAuthenticated
from auterity_dagster.identity.access_token import LEEWAY, LIFETIME, AccessTokens, access_tokens, key_id
from tests.fakes.clock import FakeClock

CLOCK = FakeClock()
KEY = Ed25519PrivateKey.generate()
OTHER_KEY = Ed25519PrivateKey.generate()
KID = key_id(KEY.public_key())
USER, ORGANIZATION = uuid4(), uuid4()


def pem(key) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def tokens(clock: FakeClock = CLOCK) -> AccessTokens:
    return access_tokens(pem(KEY), clock=clock)


def good_claims() -> dict[str, object]:
    now = int(CLOCK.now().timestamp())
    return {
        "iss": "auterity",
        "aud": "auterity-api",
        "sub": str(USER),
        "iat": now,
        "exp": now + 600,
        "jti": "1",
        "organization": str(ORGANIZATION),
        "epoch": 0,
    }


def made(*, key: Ed25519PrivateKey = KEY, header: dict[str, object] | None = None, **claims: object) -> str:
    """A token by this recipe: None takes a claim or a header away."""
    head = {"alg": "EdDSA", "typ": "at+jwt", "kid": KID, **(header or {})}
    signed = f"{part(head)}.{part({**good_claims(), **claims})}"
    return f"{signed}.{encoded(key.sign(signed.encode()))}"


def without(claim: str) -> str:
    missing: dict[str, object] = {claim: None}
    return made(key=KEY, header=None, **missing)


def part(names: dict[str, object]) -> str:
    return encoded(json.dumps({name: value for name, value in names.items() if value is not None}).encode())


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unsigned(algorithm: str) -> str:
    return f"{part({'alg': algorithm, 'typ': 'at+jwt', 'kid': KID})}.{part(good_claims())}."


def signed_by_library(key: Any, algorithm: str) -> str:
    return jwt.encode(good_claims(), key, algorithm=algorithm, headers={"typ": "at+jwt", "kid": KID})


PUBLIC = KEY.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
NOW = int(CLOCK.now().timestamp())
CORPUS = {
    "empty": "",
    "no token": "hello",
    "two parts": "a.b",
    "five parts": "a.b.c.d.e",
    "too long": "a" * 5000,
    "non-ascii": "ö.ö.ö",
    "alg none": unsigned("none"),
    "alg None": unsigned("None"),
    "alg EdDSA unsigned": unsigned("EdDSA"),
    "HMAC with the public key": signed_by_library(PUBLIC, "HS256"),
    "RSA": signed_by_library(generate_private_key(65537, 2048), "RS256"),
    "another key under our kid": made(key=OTHER_KEY),
    "another key under its own kid": made(key=OTHER_KEY, header={"kid": key_id(OTHER_KEY.public_key())}),
    "unknown kid": made(header={"kid": "../../etc/passwd"}),
    "no kid": made(header={"kid": None}),
    "typ JWT": made(header={"typ": "JWT"}),
    "no typ": made(header={"typ": None}),
    **{f"header {name}": made(header={name: value}) for name, value in {
        "jku": "https://evil.test/keys", "x5u": "https://evil.test/x", "jwk": {"kty": "OKP"}, "crit": ["exp"],
        "b64": False, "cty": "JWT",
    }.items()},
    "other issuer": made(iss="somebody"),
    "other audience": made(aud="another-api"),
    "several audiences": made(aud=["auterity-api", "another-api"]),
    "expired": made(iat=NOW - 700, exp=NOW - 100),
    "from the future": made(iat=NOW + 120, exp=NOW + 500),
    "too long a life": made(exp=NOW + 86_400),
    "expiry as text": made(exp=str(NOW + 100)),
    "expiry as fraction": made(exp=NOW + 100.5),
    "expiry at the end of time": made(exp=10**20),
    "subject is no id": made(sub="admin"),
    "organization is no id": made(organization="*"),
    "organization is a number": made(organization=1),
    "epoch as text": made(epoch="0"),
    "epoch true": made(epoch=True),
    **{f"without {name}": without(name) for name in good_claims()},
}  # fmt: skip


def test_a_token_says_who_and_which_session() -> None:
    claims = tokens().verify(tokens().issue(USER, organization_id=ORGANIZATION, epoch=7))

    assert (claims.user_id, claims.organization_id, claims.epoch) == (USER, ORGANIZATION, 7)


def test_the_recipe_of_the_corpus_makes_good_tokens() -> None:
    """Negative control: without a forgery the corpus would be accepted."""
    assert tokens().verify(made()).user_id == USER


@pytest.mark.parametrize("forgery", CORPUS)
def test_a_forged_token_is_refused(forgery: str) -> None:
    with pytest.raises(NotAuthenticated) as refused:
        tokens().verify(CORPUS[forgery])

    assert refused.value.code == "invalid_token"


@pytest.mark.parametrize("part", [0, 1, 2])
def test_a_changed_character_anywhere_is_refused(part: int) -> None:
    parts = tokens().issue(USER, organization_id=ORGANIZATION, epoch=0).split(".")
    parts[part] = parts[part][:5] + ("A" if parts[part][5] != "A" else "B") + parts[part][6:]

    with pytest.raises(NotAuthenticated):
        tokens().verify(".".join(parts))


def test_a_token_ends_after_ten_minutes_and_a_little_leeway() -> None:
    clock = FakeClock()
    token = tokens(clock).issue(USER, organization_id=ORGANIZATION, epoch=0)

    clock.advance(600 + 29)
    assert tokens(clock).verify(token).user_id == USER
    clock.advance(2)
    with pytest.raises(NotAuthenticated):
        tokens(clock).verify(token)


def test_no_two_tokens_are_alike() -> None:
    issued = {tokens().issue(UUID(int=1), organization_id=UUID(int=2), epoch=0) for _ in range(20)}

    assert len(issued) == 20


@pytest.mark.parametrize("text", ["", "not a key", pem(generate_private_key(65537, 2048))])
def test_a_process_does_not_start_with_another_kind_of_key(text: str) -> None:
    with pytest.raises(ConfigurationInvalid):
        access_tokens(text, clock=CLOCK)


def test_the_longest_life_is_ten_minutes() -> None:
    assert timedelta(minutes=10) >= LIFETIME
    assert timedelta(seconds=60) >= LEEWAY
