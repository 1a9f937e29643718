"""Access tokens: short-lived EdDSA-signed JWTs (RFC 9068) that name a user, the organization and the session epoch."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from auterity_dagster.clock import Clock
from auterity_dagster.errors import ConfigurationInvalid, NotAuthenticated

ALGORITHM = "EdDSA"
TYPE = "at+jwt"
ISSUER = "auterity"
AUDIENCE = "auterity-api"
LIFETIME = timedelta(minutes=10)
LEEWAY = timedelta(seconds=30)
LONGEST_TOKEN = 2048
CLAIMS = ("iss", "aud", "sub", "exp", "iat", "jti", "organization", "epoch")
# Exactly these: `jku x5u jwk` would name a key to trust, `crit` and `b64` change what is signed.
HEADER = frozenset({"alg", "typ", "kid"})


@dataclass(frozen=True, slots=True)
class AccessClaims:
    """What a verified token says; roles are not in it, they are read fresh."""

    user_id: UUID
    organization_id: UUID
    epoch: int
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class AccessTokens:
    """Signs with one key and verifies with every key of a fixed map from `kid` to public key."""

    signing_key: Ed25519PrivateKey
    verification_keys: Mapping[str, Ed25519PublicKey]
    clock: Clock

    def issue(self, user_id: UUID, *, organization_id: UUID, epoch: int) -> str:
        """Return a token that is good for ten minutes."""
        now = self.clock.now()
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": str(user_id),
            "iat": int(now.timestamp()),
            "exp": int((now + LIFETIME).timestamp()),
            "jti": uuid4().hex,
            "organization": str(organization_id),
            "epoch": epoch,
        }
        headers = {"typ": TYPE, "kid": key_id(self.signing_key.public_key())}
        return jwt.encode(claims, self.signing_key, algorithm=ALGORITHM, headers=headers)

    def verify(self, token: str) -> AccessClaims:
        """Return what the token says. Raises `NotAuthenticated(code="invalid_token")`, whatever is wrong with it."""
        if len(token) > LONGEST_TOKEN:
            raise _refused()
        try:
            header = jwt.get_unverified_header(token)
            key = self.verification_keys.get(str(header.get("kid")))
            if header.keys() != HEADER or header["typ"] != TYPE or key is None:
                raise _refused()
            claims = jwt.decode(
                token,
                key,
                algorithms=[ALGORITHM],
                issuer=ISSUER,
                audience=AUDIENCE,
                # Times are judged below, by our clock.
                options={
                    "require": list(CLAIMS),
                    "verify_exp": False,
                    "verify_iat": False,
                    "strict_aud": True,
                    "enforce_minimum_key_length": True,
                },
            )
            return self._in_time(claims)
        except (jwt.PyJWTError, KeyError, ValueError, TypeError, AttributeError, OverflowError) as error:
            raise _refused() from error

    def _in_time(self, claims: Mapping[str, Any]) -> AccessClaims:
        issued_at, expires_at = (_instant(claims[name]) for name in ("iat", "exp"))
        now = self.clock.now()
        if issued_at > now + LEEWAY or expires_at <= now - LEEWAY or expires_at - issued_at > LIFETIME:
            raise _refused()
        epoch = claims["epoch"]
        if type(epoch) is not int:
            raise _refused()
        return AccessClaims(
            user_id=UUID(claims["sub"]),
            organization_id=UUID(claims["organization"]),
            epoch=epoch,
            expires_at=expires_at,
        )


def access_tokens(signing_key_pem: str, *, clock: Clock) -> AccessTokens:
    """Return what signs and verifies with this Ed25519 key. Raises `ConfigurationInvalid` for any other key."""
    try:
        key = load_pem_private_key(signing_key_pem.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigurationInvalid("signing_key.pem holds no private key") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigurationInvalid("signing_key.pem must hold an Ed25519 key")
    public = key.public_key()
    return AccessTokens(signing_key=key, verification_keys={key_id(public): public}, clock=clock)


def key_id(key: Ed25519PublicKey) -> str:
    """Return the name of a key: the beginning of its digest."""
    return hashlib.sha256(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()[:16]


def _instant(seconds: object) -> datetime:
    if type(seconds) is not int:
        raise _refused()
    return datetime.fromtimestamp(seconds, UTC)


def _refused() -> NotAuthenticated:
    return NotAuthenticated("the access token is not valid", code="invalid_token")
