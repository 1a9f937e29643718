"""The link that ends a dealership's e-mails to a contact (RFC 8058): whom it is about, and a code only we can make."""

import base64
import binascii
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from auterity_dagster.errors import NotFound
from auterity_dagster.identity.derivation import keyed_digest

PATH = "/api/v1/unsubscribe"
_LABEL = "unsubscribe link"
_ID_BYTES = 16
_CODE_BYTES = 16


@dataclass(frozen=True, slots=True)
class UnsubscribeLinks:
    """Writes the links; `base_url` is where a customer's mail program finds the API."""

    base_url: str
    pepper: Callable[[], bytes]

    def url(self, organization_id: UUID, contact_id: UUID) -> str:
        """Return the contact's link; it is the same in every e-mail and works as long as the pepper stays."""
        return f"{self.base_url.rstrip('/')}{PATH}/{written(self.pepper(), organization_id, contact_id)}"


def written(pepper: bytes, organization_id: UUID, contact_id: UUID) -> str:
    """Return the end of a link: 64 characters that are safe in an address."""
    subject = organization_id.bytes + contact_id.bytes
    return base64.urlsafe_b64encode(subject + _code(pepper, subject)).decode()


def read(pepper: bytes, token: str) -> tuple[UUID, UUID]:
    """Return organization and contact of a link. Raises `NotFound` for one that we did not write."""
    try:
        content = base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError):
        content = b""
    subject, code = content[: 2 * _ID_BYTES], content[2 * _ID_BYTES :]
    if not hmac.compare_digest(code, _code(pepper, subject)) or len(subject) != 2 * _ID_BYTES:
        raise NotFound("this link is not complete: copy it from the e-mail once more")
    return UUID(bytes=subject[:_ID_BYTES]), UUID(bytes=subject[_ID_BYTES:])


def _code(pepper: bytes, subject: bytes) -> bytes:
    return keyed_digest(pepper, label=_LABEL, message=subject)[:_CODE_BYTES]
