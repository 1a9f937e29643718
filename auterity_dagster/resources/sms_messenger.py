"""`automatrix.ports.Messenger` over a text-message service that speaks Twilio's wire."""

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import cast
from urllib.parse import quote, urlencode
from uuid import UUID

from auterity_dagster.automatrix.compliance.rows import Channel
from auterity_dagster.automatrix.connection import SmsSettings
from auterity_dagster.automatrix.ports import Message, MessengerFailed, Receipt
from auterity_dagster.clock import Clock
from auterity_dagster.public_address import BlockedAddress
from auterity_dagster.public_http import CallFailed, HttpAnswer, HttpCall, PublicHttp

TIMEOUT_S = 15.0
LOOKED_AT = 50
GONE = frozenset({"failed", "undelivered", "canceled"})


@dataclass(frozen=True, slots=True)
class SmsMessenger:
    """Sends from one number. The service knows no key: an earlier attempt is found by number, text and day."""

    settings: SmsSettings
    secret: Callable[[], str | None]
    http: PublicHttp
    clock: Clock

    def is_live(self, organization_id: UUID, channel: Channel) -> bool:
        return True

    def repeats_safely(self, message: Message) -> bool:
        return False

    def send(self, message: Message, key: str) -> Receipt:
        form = {"To": message.address, "From": self.settings.from_number, "Body": message.text}
        answer = self._call("POST", self._messages(), body=urlencode(form).encode())
        if answer.status >= 500:
            # It failed inside, and nobody says after how much of its work.
            raise MessengerFailed("provider_error", f"the service answered {answer.status}", is_unknown=True)
        if not 200 <= answer.status < 300:
            code = "rate_limited" if answer.status == 429 else "invalid_input"
            raise MessengerFailed(code, f"the service answered {answer.status}{_reason(answer)}", is_unknown=False)
        sid = _document(answer).get("sid")
        if not isinstance(sid, str):
            raise MessengerFailed("invalid_output", "the service took the message and did not name it", is_unknown=True)
        return Receipt(sid)

    def lookup(self, message: Message, key: str) -> Receipt | None:
        """Return the message with this text to this number that the service took today or yesterday."""
        for days in (0, 1):
            query = {
                "To": message.address,
                "From": self.settings.from_number,
                "DateSent": (self.clock.now() - timedelta(days=days)).date().isoformat(),
                "PageSize": str(LOOKED_AT),
            }
            answer = self._call("GET", f"{self._messages()}?{urlencode(query)}")
            if answer.status != 200:
                message_text = f"the service answered {answer.status} when it was asked what it sent"
                raise MessengerFailed("provider_error", message_text, is_unknown=True)
            listed = cast("Sequence[Mapping[str, object]]", _document(answer).get("messages") or ())
            for one in listed:
                if one.get("body") == message.text and one.get("status") not in GONE:
                    return Receipt(str(one["sid"]))
        return None

    def _messages(self) -> str:
        account = quote(self.settings.account_sid, safe="")
        return f"{self.settings.base_url.rstrip('/')}/2010-04-01/Accounts/{account}/Messages.json"

    def _call(self, method: str, url: str, *, body: bytes | None = None) -> HttpAnswer:
        pair = base64.b64encode(f"{self.settings.account_sid}:{self.secret() or ''}".encode()).decode()
        headers = {"authorization": f"Basic {pair}", "accept": "application/json", "user-agent": "auterity"}
        if body is not None:
            headers["content-type"] = "application/x-www-form-urlencoded"
        try:
            return self.http.call(HttpCall(method, url, headers, body, timeout_s=TIMEOUT_S))
        except BlockedAddress as error:
            raise MessengerFailed("blocked_address", error.message, is_unknown=False) from error
        except CallFailed as error:
            code = "timeout" if error.cause == "timeout" else "connection"
            raise MessengerFailed(code, error.message, is_unknown=error.is_unknown) from error


def _document(answer: HttpAnswer) -> Mapping[str, object]:
    try:
        document: object = json.loads(answer.body)
    except (ValueError, RecursionError):
        return {}
    return cast("Mapping[str, object]", document) if isinstance(document, dict) else {}


def _reason(answer: HttpAnswer) -> str:
    code = _document(answer).get("code")
    return f" (code {code})" if isinstance(code, int) else ""
