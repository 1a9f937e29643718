"""The fault dial: what the sandbox does wrong on purpose, for a model, a number of times or a share of the calls."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

Fault = Literal[
    # Refusals, not billed:
    "bad_request",  # 400
    "context_length",  # 400, the prompt is too long for the model
    "unauthorized",  # 401
    "not_found",  # 404, there is no such model
    "request_timeout",  # 408
    "rate_limit",  # 429, to be asked again after `retry_after_s`
    "error_500",
    "bad_gateway",  # 502
    "refuse",  # 503
    "gateway_timeout",  # 504
    "overloaded",  # 529
    # Silence:
    "blackhole",  # never answers; not billed
    "slow",  # the answer begins `delay_s` late
    "trickle",  # one byte every `delay_s`
    # Answers that break off; what was sent is billed, of a JSON answer all of it:
    "cut_at_start",  # after the headers
    "cut_first_byte",
    "cut_stream",  # in the middle
    "cut_at_end",  # all but the end
    "reset",  # in the middle, and the connection is reset
    # Answers that are none; billed:
    "error_500_billed",  # 500 after the work was done
    "malformed",  # 200 with text that is no JSON
    "bad_event",  # a stream's event is no JSON
    "error_event",  # a stream begins with an error
    "late_error_event",  # a stream has an error in the middle
    "endless_line",  # a line of 4 MiB
    "empty",  # 200 without content
    "broken_schema",  # JSON that is not what was asked for
    # Usage reports that are wrong; the answer is right:
    "usage_absent",
    "usage_zero",  # says 0 and bills 0
    "usage_negative",
    "usage_too_high",  # says ten times the output, and bills it
    "usage_twice",  # says half first
    "usage_falling",  # says more first
    "usage_nan",
]
FAULTS: tuple[Fault, ...] = get_args(Fault)

STATUS_OF_REFUSAL: Mapping[str, int] = {
    "bad_request": 400,
    "context_length": 400,
    "unauthorized": 401,
    "not_found": 404,
    "request_timeout": 408,
    "rate_limit": 429,
    "error_500": 500,
    "bad_gateway": 502,
    "refuse": 503,
    "gateway_timeout": 504,
    "overloaded": 529,
}


class DialSetting(BaseModel):
    """One setting: `model` None means every model, `times` None means until it is set again."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    fault: Fault
    model: str | None = None
    times: int | None = Field(default=None, ge=1)
    share: float = Field(default=1.0, gt=0, le=1)
    delay_s: float = Field(default=60.0, ge=0, le=3600)
    retry_after_s: float = Field(default=1.0, ge=0, le=3600)


@dataclass(slots=True)
class _Set:
    setting: DialSetting
    left: int | None
    seen: int = 0


class FaultDial:
    """The settings in force. A share is drawn from the seed and the number of the call, so a run can be repeated."""

    def __init__(self, *, seed: int) -> None:
        self._seed = seed
        self._settings: list[_Set] = []

    def set(self, settings: list[DialSetting]) -> None:
        """Replace every setting; an empty list makes the sandbox faultless."""
        self._settings = [_Set(one, one.times) for one in settings]

    def next_for(self, model: str) -> DialSetting | None:
        """Return the fault of the next call of a model, or None."""
        for one in self._settings:
            if one.setting.model not in (None, model) or one.left == 0:
                continue
            one.seen += 1
            if self._draw(one) >= one.setting.share:
                continue
            if one.left is not None:
                one.left -= 1
            return one.setting
        return None

    def _draw(self, one: _Set) -> float:
        text = f"{self._seed}|{one.setting.fault}|{one.setting.model}|{one.seen}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4]) / 2**32
