"""A text-message service on loopback that speaks Twilio's wire and keeps what it took."""

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

from tests.fakes.recording_service import Asked, RecordingService


@dataclass
class TextService(RecordingService):
    """`behaviour` is `take`, `refuse` (400), `limit` (429), `fail` (500) or `hang_up`, the last two after taking it."""

    behaviour: str = "take"
    taken: list[dict[str, str]] = field(default_factory=list)

    def answer(self, asked: Asked) -> tuple[int, Any] | None:
        self.asked.append(asked)
        if asked.method == "GET":
            query = parse_qs(urlsplit(asked.path).query)
            found = [one for one in self.taken if [one["to"]] == query["To"] and [one["from"]] == query["From"]]
            return 200, {"messages": found}
        if self.behaviour in ("refuse", "limit"):
            return (400, {"code": 21211}) if self.behaviour == "refuse" else (429, {})
        form = dict(parse_qsl(asked.body.decode()))
        sid = f"SM{len(self.taken):032x}"
        self.taken.append({"sid": sid, "to": form["To"], "from": form["From"], "body": form["Body"], "status": "sent"})
        if self.behaviour == "fail":
            return 500, {}
        return None if self.behaviour == "hang_up" else (201, {"sid": sid, "status": "queued"})
