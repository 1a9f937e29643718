"""Encryption of single values under an organization's own key, derived from the pepper and stored nowhere."""

import secrets
from dataclasses import dataclass
from uuid import UUID

from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV

from auterity_dagster.identity.derivation import derived_secret, length_prefixed

NONCE_BYTES = 12
KEY_VERSION = b"1"


@dataclass(frozen=True, slots=True)
class Cell:
    """Where a sealed value stands: one moved to another row, column or organization does not open."""

    organization_id: UUID
    table: str
    column: str
    row_id: UUID

    def associated_data(self) -> bytes:
        """The cell as the cipher binds it."""
        parts = [self.organization_id.bytes, self.table.encode(), self.column.encode(), self.row_id.bytes, KEY_VERSION]
        return length_prefixed(parts)


def seal(pepper: bytes, value: bytes, *, cell: Cell) -> bytes:
    """Return key version, nonce and ciphertext (AES-256-GCM-SIV, random 96-bit nonce)."""
    nonce = secrets.token_bytes(NONCE_BYTES)
    return KEY_VERSION + nonce + _cipher(pepper, cell).encrypt(nonce, value, cell.associated_data())


def unseal(pepper: bytes, sealed: bytes, *, cell: Cell) -> bytes:
    """Return the value. Raises `cryptography.exceptions.InvalidTag` for one that was changed or moved."""
    start = len(KEY_VERSION)
    nonce, ciphertext = sealed[start : start + NONCE_BYTES], sealed[start + NONCE_BYTES :]
    return _cipher(pepper, cell).decrypt(nonce, ciphertext, cell.associated_data())


def _cipher(pepper: bytes, cell: Cell) -> AESGCMSIV:
    return AESGCMSIV(derived_secret(pepper, label="organization data", parts=(cell.organization_id.bytes, KEY_VERSION)))
