"""Refresh tokens: 256 random bits at sign-in, and after that each derived from the one before it."""

import re
import secrets
from datetime import timedelta

from auterity_dagster.errors import NotAuthenticated
from auterity_dagster.identity.api_key import SECRET_LENGTH, base62
from auterity_dagster.identity.derivation import SECRET_BYTES, derived_secret

GRACE = timedelta(seconds=20)
"""How long a used token still gives the successor it gave first: a lost answer, two tabs."""

IDLE = timedelta(hours=12)
ABSOLUTE = timedelta(days=7)
_FORMAT = re.compile(rf"autr_[0-9A-Za-z]{{{SECRET_LENGTH}}}")


def new_refresh_token() -> str:
    """Return a random token that begins a family."""
    return _written(secrets.token_bytes(SECRET_BYTES))


def successor_of(pepper: bytes, *, token: str) -> str:
    """Return the one successor of a token: nobody without the pepper can compute it."""
    return _written(derived_secret(pepper, label="refresh token", parts=(token.encode(),)))


def require_well_formed(token: str) -> None:
    """Raise `NotAuthenticated` for what cannot be a refresh token, before anything is asked of a database."""
    if not _FORMAT.fullmatch(token):
        raise refused()


def refused() -> NotAuthenticated:
    """Return the one answer to every refresh token that is not accepted."""
    return NotAuthenticated("the session has ended: sign in again", code="session_ended")


def _written(secret: bytes) -> str:
    return f"autr_{base62(int.from_bytes(secret, 'big'), width=SECRET_LENGTH)}"
