"""W3C trace context (level 1): what a caller's `traceparent` says, and what each attempt's provider is told.

Span ids follow from the request's id, so that nothing has to be carried along: whoever writes the spans afterwards
finds the ids under which the provider was called.
"""

import hashlib
import re
from dataclasses import dataclass
from uuid import UUID

SAMPLED = 0x01
SHARES = 10_000

# Only version 00 is known; a header of a later version counts as none, as one that is not well formed does.
_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")


@dataclass(frozen=True, slots=True)
class RequestTrace:
    """The trace that a request belongs to. `caller_span_id` is None where the trace begins here.

    `is_recorded` says that this process writes spans: then a provider's parent is the attempt's span. Else the caller's
    own header is passed on.
    """

    request_id: UUID
    trace_id: int
    caller_span_id: int | None
    is_sampled: bool
    is_recorded: bool

    def span_id(self, attempt: int = 0) -> int:
        """Return the id of the request's span, or of that of its n-th attempt, counted from 1."""
        salt = attempt.to_bytes(2, "big")
        digest = hashlib.blake2b(self.request_id.bytes, digest_size=8, salt=salt).digest()
        return int.from_bytes(digest, "big") or 1

    def traceparent(self, attempt: int) -> str:
        """Return the header for the provider of the n-th attempt."""
        recorded = self.is_recorded or self.caller_span_id is None
        parent = self.span_id(attempt) if recorded else self.caller_span_id
        return f"00-{self.trace_id:032x}-{parent:016x}-{int(self.is_sampled):02x}"


def request_trace(request_id: UUID, traceparent: str | None, *, recorded_share: float | None) -> RequestTrace | None:
    """Return the trace of a request, or None: it has none, and this process writes none.

    A caller's trace goes on, sampled as the caller says. Without one the trace's id is the request's id, and
    `recorded_share` of them are sampled; None where this process writes no spans.
    """
    match = _TRACEPARENT.fullmatch(traceparent) if traceparent is not None else None
    is_recorded = recorded_share is not None
    if match is not None and int(match[1], 16) and int(match[2], 16):
        is_sampled = bool(int(match[3], 16) & SAMPLED)
        return RequestTrace(request_id, int(match[1], 16), int(match[2], 16), is_sampled, is_recorded)
    if recorded_share is None:
        return None
    is_sampled = request_id.int % SHARES < recorded_share * SHARES
    return RequestTrace(request_id, request_id.int, None, is_sampled, is_recorded)
