"""Standard Webhooks signatures over raw bytes.

The `standardwebhooks` library reads a body as UTF-8 text and lead senders also post Windows-1252, so the bytes are
signed here as the standard says; a test holds both to the same signatures.
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping
from datetime import datetime, timedelta

from auterity_dagster.errors import NotAuthenticated

TOLERANCE = timedelta(minutes=5)
SECRET_PREFIX = "whsec_"  # noqa: S105 -- the mark of a secret, not one
SIGNATURES_LIMIT = 10

# Printable ASCII without the full stop, which separates id, time and body in what is signed.
_MESSAGE_ID = re.compile(r"[!-\-/-~]{1,200}")
_TIMESTAMP = re.compile(r"[0-9]{1,11}")


def sign(secret: str, *, message_id: str, timestamp: int, body: bytes) -> str:
    """Return the `webhook-signature` header for a body; `secret` is `whsec_…`."""
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
    signed = b"%s.%d.%s" % (message_id.encode("ascii"), timestamp, body)
    return f"v1,{base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()}"


def verify(secret: str, headers: Mapping[str, str], body: bytes, *, now: datetime) -> str:
    """Return the message id of an authentic, recent body. Raises `NotAuthenticated`, and nothing else."""
    message_id = headers.get("webhook-id", "")
    written_time = headers.get("webhook-timestamp", "")
    if _MESSAGE_ID.fullmatch(message_id) is None or _TIMESTAMP.fullmatch(written_time) is None:
        raise refused()
    timestamp = int(written_time)
    if abs(now.timestamp() - timestamp) > TOLERANCE.total_seconds():
        raise refused()
    expected = sign(secret, message_id=message_id, timestamp=timestamp, body=body).partition(",")[2]
    presented = headers.get("webhook-signature", "").split(" ")[:SIGNATURES_LIMIT]
    # Every signature is compared: how long it takes says nothing about which one fits.
    if True not in [_fits(one, expected) for one in presented]:
        raise refused()
    return message_id


def refused() -> NotAuthenticated:
    """Return the one answer to every delivery that is not accepted, whatever is wrong with it."""
    return NotAuthenticated("the signature is not valid for this source", code="invalid_signature")


def _fits(presented: str, expected: str) -> bool:
    version, _, signature = presented.partition(",")
    try:
        given = base64.b64decode(signature, validate=True)
    except (binascii.Error, ValueError):
        return False
    return version == "v1" and hmac.compare_digest(given, base64.b64decode(expected))
