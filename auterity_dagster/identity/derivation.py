"""Secrets that are derived from the pepper and never stored, and the keyed digests that are stored instead of secrets.

Every use has a label of its own, so that no two uses ever share a key (RFC 5869, HKDF-SHA256).
"""

import hmac
from collections.abc import Sequence
from functools import lru_cache

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

SECRET_BYTES = 32


def derived_secret(pepper: bytes, *, label: str, parts: Sequence[bytes]) -> bytes:
    """Return 32 bytes for this label and these parts; each part is length-prefixed, so no two lists collide."""
    info = length_prefixed([label.encode(), *parts])
    return HKDF(algorithm=SHA256(), length=SECRET_BYTES, salt=None, info=info).derive(pepper)


def keyed_digest(pepper: bytes, *, label: str, message: bytes) -> bytes:
    """Return the HMAC-SHA256 of a message under the key for this label."""
    return hmac.digest(_key_of(pepper, label), message, "sha256")


def length_prefixed(fields: Sequence[bytes]) -> bytes:
    """Join fields so that they can be told apart again: 8 bytes of length before each."""
    return b"".join(len(field).to_bytes(8, "big") + field for field in fields)


@lru_cache(maxsize=64)
def _key_of(pepper: bytes, label: str) -> bytes:
    # Derived once a process: a digest is made for every call of the gateway, and the derivation costs ten times one.
    return derived_secret(pepper, label=label, parts=())
