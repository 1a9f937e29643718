"""Where a text ends early: at the first of the strings that its caller named, which are not part of it."""

from collections.abc import Sequence


def ended_at(text: str, stops: Sequence[str]) -> int | None:
    """Return where the text ends, or None: no stop is in it."""
    return min((place for stop in stops if (place := text.find(stop)) >= 0), default=None)


def surely_said(text: str, stops: Sequence[str]) -> str:
    """Return what may be sent already: without an end that may still become a stop."""
    held = 0
    for stop in stops:
        for size in range(min(len(stop) - 1, len(text)), held, -1):
            if text.endswith(stop[:size]):
                held = size
                break
    return text[: len(text) - held]
