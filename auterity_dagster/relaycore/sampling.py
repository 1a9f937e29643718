"""Draws that can be repeated: the same request and purpose give the same number, whoever asks and whenever."""

import hashlib
from uuid import UUID


def drawn(request_id: UUID, purpose: str) -> float:
    """Return a number from 0 up to but not 1, evenly spread over requests and on its own for each purpose."""
    digest = hashlib.sha256(f"{request_id}|{purpose}".encode()).digest()
    return int.from_bytes(digest[:6]) / 2**48


def is_sampled(request_id: UUID, purpose: str, *, share: float) -> bool:
    """True for this share of requests."""
    return drawn(request_id, purpose) < share
