"""The fault dial: what the sandbox does wrong on purpose, for a model, a number of times or a share of the calls."""

import hashlib
from dataclasses import dataclass
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

Fault = Literal[
    "refuse",  # 503, not billed
    "bad_request",  # 400, not billed
    "unauthorized",  # 401, not billed
    "rate_limit",  # 429, not billed
    "error_500",  # 500, not billed
    "error_500_billed",  # 500 after the work was done and billed
    "slow",  # the answer begins `delay_s` late
    "reset",  # the connection closes in the middle of an answer, which is billed
    "cut_stream",  # half a stream, no usage, no end; what was sent is billed
    "malformed",  # 200 with text that is no JSON; billed
    "empty",  # 200 without content; billed
    "usage_absent",
    "usage_zero",  # says 0 and bills 0
    "usage_negative",
    "usage_too_high",  # says ten times the output, and bills it
]
FAULTS: tuple[Fault, ...] = get_args(Fault)


class DialSetting(BaseModel):
    """One setting: `model` None means every model, `times` None means until it is set again."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    fault: Fault
    model: str | None = None
    times: int | None = Field(default=None, ge=1)
    share: float = Field(default=1.0, gt=0, le=1)
    delay_s: float = Field(default=60.0, ge=0, le=3600)


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
