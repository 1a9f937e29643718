"""API keys: their format, which is checked before anything is asked of a database, and how their secrets are kept.

`auty_<live|test>_<8 id>_<43 base62>_<6 checksum>`: found by the id, compared by a keyed digest of the whole.
"""

import re
import secrets
import zlib
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from auterity_dagster.errors import NotAuthenticated
from auterity_dagster.identity.derivation import SECRET_BYTES, derived_secret, keyed_digest

KeyMode = Literal["live", "test"]

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
ID_LENGTH = 8
SECRET_LENGTH = 43  # 62**43 > 2**256
CHECKSUM_LENGTH = 6
# Used with fullmatch: `$` would admit a trailing newline.
_FORMAT = re.compile(
    rf"(auty_(?:live|test)_([0-9A-Za-z]{{{ID_LENGTH}}})_[0-9A-Za-z]{{{SECRET_LENGTH}}})_([0-9A-Za-z]{{{CHECKSUM_LENGTH}}})"
)


@dataclass(frozen=True, slots=True)
class PresentedKey:
    """A well-formed key somebody presented: its public id, and the keyed digest of the whole key."""

    public_id: str
    digest: bytes


def new_public_id() -> str:
    """Return a random id of a new key; it names the key in look-ups and is no secret."""
    return "".join(secrets.choice(ALPHABET) for _ in range(ID_LENGTH))


def new_key(mode: KeyMode, *, public_id: str) -> str:
    """Return a new random key; it is shown once and only its digest is stored."""
    return _compose(mode, public_id=public_id, secret=secrets.token_bytes(SECRET_BYTES))


def system_key_secret(pepper: bytes, key_id: UUID, *, organization_id: UUID, public_id: str) -> str:
    """Return an organization's own key for its services, derived from the pepper: any service can re-make it."""
    parts = (organization_id.bytes, key_id.bytes, public_id.encode())
    return _compose("live", public_id=public_id, secret=derived_secret(pepper, label="system key", parts=parts))


def digest_of(pepper: bytes, key: str) -> bytes:
    """Return what is stored instead of a key."""
    return keyed_digest(pepper, label="api key", message=key.encode())


def read_key(pepper: bytes, text: str) -> PresentedKey:
    """Check format and checksum, and return what to look up. Raises `NotAuthenticated(code="invalid_api_key")`."""
    match = _FORMAT.fullmatch(text)
    if match is None or _checksum(match[1]) != match[3]:
        raise invalid_key()
    return PresentedKey(public_id=match[2], digest=digest_of(pepper, text))


def invalid_key() -> NotAuthenticated:
    """Return the one answer to every key that is not accepted, whatever is wrong with it."""
    return NotAuthenticated("the API key is not valid", code="invalid_api_key")


def _compose(mode: KeyMode, *, public_id: str, secret: bytes) -> str:
    body = f"auty_{mode}_{public_id}_{base62(int.from_bytes(secret, 'big'), width=SECRET_LENGTH)}"
    return f"{body}_{_checksum(body)}"


def _checksum(body: str) -> str:
    return base62(zlib.crc32(body.encode()), width=CHECKSUM_LENGTH)


def base62(number: int, *, width: int) -> str:
    """Write a number with digits and letters, padded with zeros to a width."""
    digits: list[str] = []
    while number:
        number, digit = divmod(number, len(ALPHABET))
        digits.append(ALPHABET[digit])
    return "".join(reversed(digits)).rjust(width, ALPHABET[0])
