"""The cells of the fault matrix, the end that docs/gateway.md promises for each, and how strictly an end is read.

A cell is a fault, the caller's wire, the provider's wire, whole or streamed, and whether only the first deployment has
the fault or every one.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

import httpx

Wire = Literal["openai", "anthropic"]
WIRES: tuple[Wire, ...] = ("openai", "anthropic")
SILENT = ("blackhole", "slow", "trickle")
TAKEN_OUT = ("not_found", "unauthorized")
"""After these the gateway leaves a deployment or a credential alone for a minute: each cell has its own."""

UNASKED = ("broken_schema",)
"""Faults of answers that these calls do not ask for."""

TO_THE_CALLER = {"bad_request": "invalid_request", "context_length": "context_length_exceeded"}
BEFORE_THE_FIRST_WORD = {
    "request_timeout": "overloaded",
    "refuse": "overloaded",
    "overloaded": "overloaded",
    "rate_limit": "upstream_rate_limited",
    "unauthorized": "credentials_exhausted",
    "not_found": "upstream_error",
    "error_500": "upstream_error",
    "error_500_billed": "upstream_error",
    "bad_gateway": "upstream_error",
    "gateway_timeout": "upstream_error",
    "cut_at_start": "upstream_error",
    "cut_first_byte": "upstream_error",
    "malformed": "provider_malformed",
    "empty": "provider_malformed",
}
IN_THE_MIDDLE = {"cut_stream": "upstream_error", "cut_at_end": "upstream_error", "reset": "upstream_error"}
IN_THE_MIDDLE |= {"usage_nan": "provider_malformed"}  # NaN is no JSON
OF_STREAMS = {"bad_event": "provider_malformed", "endless_line": "provider_malformed"}
STATUS = {
    "invalid_request": (400, "invalid_request_error"),
    "context_length_exceeded": (400, "invalid_request_error"),
    "upstream_rate_limited": (429, "rate_limit_error"),
    "upstream_error": (502, "api_error"),
    "provider_malformed": (502, "api_error"),
    "credentials_exhausted": (502, "api_error"),
    "overloaded": (503, "overloaded_error"),
    "upstream_timeout": (504, "timeout_error"),
    "stream_interrupted": (200, "api_error"),
}
"""The status of each code and the type beside it; an interrupted stream had begun with 200."""


@dataclass(frozen=True)
class Cell:
    fault: str
    caller: Wire
    provider: Wire
    is_streamed: bool
    is_everywhere: bool

    def __str__(self) -> str:
        how, where = ("streamed" if self.is_streamed else "whole"), ("all" if self.is_everywhere else "first")
        return f"{self.fault}_{self.caller}_{self.provider}_{how}_{where}"

    @property
    def pool(self) -> str:
        return str(self) if self.fault in TAKEN_OUT else self.provider


@dataclass(frozen=True)
class Ended:
    """How a call ended: with this text as a whole answer, or with this code (and what stands beside it)."""

    text: str | None
    code: str | None = None
    status: int = 200
    type: str | None = None


def cells(fault: str) -> list[Cell]:
    """All cells of a fault; those in which every deployment has it come last."""
    kinds = product((False, True), WIRES, WIRES, (False, True))
    return [Cell(fault, caller, provider, streamed, where) for where, caller, provider, streamed in kinds]


def documented(cell: Cell) -> str | None:
    """The code with which a cell ends; None for a right answer."""
    fault = cell.fault
    if fault in TO_THE_CALLER:
        return TO_THE_CALLER[fault]
    if fault in SILENT:
        return "upstream_timeout"
    if cell.is_streamed and (fault in IN_THE_MIDDLE or fault == "late_error_event"):
        return "stream_interrupted"
    codes = BEFORE_THE_FIRST_WORD | (OF_STREAMS if cell.is_streamed else IN_THE_MIDDLE)
    if cell.is_streamed:
        codes["error_event"] = "overloaded" if cell.provider == "anthropic" else "upstream_error"
    return codes.get(fault) if cell.is_everywhere else None


def ended(wire: Wire, answer: httpx.Response) -> Ended:
    """Read an answer as strictly as a client could. Fails on anything between a whole answer and an error."""
    if answer.status_code != 200:
        return failed(answer.status_code, answer.json(), wire)
    if answer.headers["content-type"] == "application/json":
        return Ended(whole_text(wire, answer.json()))
    events = stream_events(wire, answer.text)
    errors = [event for event in events if "error" in event]
    return failed(200, errors[-1], wire) if errors else Ended(streamed_text(wire, events))


def stream_events(wire: Wire, text: str) -> list[dict[str, Any]]:
    """Return a stream's events. Fails unless it has either its wire's end mark or an error at its end."""
    lines = [line[5:].strip() for line in text.splitlines() if line.startswith("data:")]
    events = [json.loads(line) for line in lines if line != "[DONE]"]
    is_ended = lines[-1] == "[DONE]" if wire == "openai" else events[-1]["type"] == "message_stop"
    assert is_ended != any("error" in event for event in events), "a stream has an end mark or an error, never both"
    return events


def failed(status: int, document: Mapping[str, Any], wire: Wire) -> Ended:
    assert (document.get("type") == "error") == (wire == "anthropic"), "each wire has its own form of an error"
    return Ended(None, document["error"]["code"], status, document["error"]["type"])


def whole_text(wire: Wire, body: Mapping[str, Any]) -> str:
    return body["choices"][0]["message"]["content"] if wire == "openai" else body["content"][0]["text"]


def streamed_text(wire: Wire, events: Sequence[Mapping[str, Any]]) -> str:
    if wire == "openai":
        return "".join(one["choices"][0]["delta"].get("content") or "" for one in events if one["choices"])
    return "".join(one["delta"]["text"] for one in events if one["type"] == "content_block_delta")


def problem(cell: Cell, found: Ended, *, right: str) -> str | None:
    """What is wrong with the way in which a cell ended."""
    code = documented(cell)
    wanted = Ended(right) if code is None else Ended(None, code, *STATUS[code])
    return None if found == wanted else f"{cell}: {found}, documented is {wanted}"
