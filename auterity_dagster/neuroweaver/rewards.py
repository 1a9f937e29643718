"""What programs reward in an answer while a model is optimised, and how to see that it learns to please them only."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from auterity_dagster.neuroweaver.example import Family, Message
from auterity_dagster.neuroweaver.judging import Comparison, findings
from auterity_dagster.neuroweaver.recipe import RewardName
from auterity_dagster.neuroweaver.scoring import claims
from auterity_dagster.neuroweaver.scoring.families import LENGTH_LIMIT, triage_answer

SHORTEST = 15
SPREADLESS_LIMIT = 0.8
"""The share of groups whose answers are all worth the same, above which nothing is left to learn from."""

GAIN, LOSS = 0.03, 0.03
"""Training rewards that rise by `GAIN` while the held-out judge falls by `LOSS` are being gamed."""


class Rewarded(NamedTuple):
    """One answer to one prompt."""

    family: Family
    asked: str
    answer: str


def grounded(one: Rewarded) -> float:
    """1 for an answer that no program objects to, half a point less for each objection: invented facts, promises, …"""
    prompt = (Message(role="user", content=one.asked),)
    return max(0.0, 1 - 0.5 * len(findings(Comparison(one.family, prompt, one.answer, one.answer), one.answer)))


def next_step(one: Rewarded) -> float:
    """1 for a reply that offers the customer one next step; for triage, an answer that is the asked JSON."""
    if one.family is Family.SERVICE_TRIAGE:
        return float(triage_answer(one.answer) is not None)
    return float(claims.has_next_step(one.answer))


def length(one: Rewarded) -> float:
    """1 within the house's length, falling to 0 at twice of it; 0 for an answer of a word or two."""
    count = len(one.answer.strip())
    if count < SHORTEST:
        return 0.0
    return max(0.0, min(1.0, 2 - count / LENGTH_LIMIT))


def held_out(one: Rewarded) -> float:
    """The second judge, which no weight makes count: plain English, without saying the same words over and over."""
    words = one.answer.lower().split()
    if one.family is Family.SERVICE_TRIAGE:
        return float(triage_answer(one.answer) is not None)
    if not words or not claims.is_plain_english(one.answer):
        return 0.0
    triples = [tuple(words[at : at + 3]) for at in range(max(1, len(words) - 2))]
    return len(set(triples)) / len(triples)


REWARDS: Mapping[RewardName, Callable[[Rewarded], float]] = {
    "grounded": grounded,
    "next_step": next_step,
    "length": length,
}


class RewardWatch:
    """Sees when optimising is of no more use: groups without spread, or rewards that rise while the second judge falls.

    Compared are the means of the first and of the last `window` steps.
    """

    def __init__(self, *, window: int) -> None:
        self._window = window
        self._trained: list[float] = []
        self._held_out: list[float] = []
        self._spreadless: list[float] = []

    def add(self, *, trained: float, held_out: float, spreadless: float) -> str | None:
        """Add a step's means (0 to 1); return why to stop, or None."""
        self._trained.append(trained)
        self._held_out.append(held_out)
        self._spreadless.append(spreadless)
        if len(self._spreadless) < self._window:
            return None
        share = self._last(self._spreadless)
        if share > SPREADLESS_LIMIT:
            return f"{share:.0%} of the groups have no spread: nothing is left to learn from"
        gained = self._last(self._trained) - self._first(self._trained)
        lost = self._first(self._held_out) - self._last(self._held_out)
        if len(self._trained) >= 2 * self._window and gained >= GAIN and lost >= LOSS:
            return f"rewards rose by {gained:.2f} while the held-out judge fell by {lost:.2f}: they are being gamed"
        return None

    def _first(self, values: list[float]) -> float:
        return sum(values[: self._window]) / self._window

    def _last(self, values: list[float]) -> float:
        return sum(values[-self._window :]) / self._window
