"""Twilio's signature of a webhook: HMAC-SHA1 over the URL and the sorted form fields, keyed by the auth token."""

import base64
import hashlib
import hmac
from collections.abc import Iterable

from auterity_dagster.serving.webhook_signature import refused


def sms_signature(token: str, *, url: str, fields: Iterable[tuple[str, str]]) -> str:
    """Return the `X-Twilio-Signature` of a form that was posted to this URL, as the sender spells it."""
    signed = url + "".join(f"{name}{value}" for name, value in sorted(set(fields)))
    # The sender's wire fixes SHA-1; as a keyed digest it is sound.
    return base64.b64encode(hmac.new(token.encode(), signed.encode(), hashlib.sha1).digest()).decode()


def verify_sms(token: str, *, url: str, fields: Iterable[tuple[str, str]], presented: str) -> None:
    """Raise `NotAuthenticated` for any other signature."""
    expected = sms_signature(token, url=url, fields=fields)
    if not hmac.compare_digest(expected.encode(), presented.encode("utf-8", "replace")):
        raise refused()
