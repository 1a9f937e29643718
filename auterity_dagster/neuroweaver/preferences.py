"""From several answers to each prompt to the pairs that DPO learns from, balanced in length and graded."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from math import sqrt
from typing import NamedTuple

from pydantic import AwareDatetime, BaseModel, ConfigDict

from auterity_dagster.neuroweaver.example import Family, Message, PreferencePair
from auterity_dagster.neuroweaver.judging import Comparison, findings
from auterity_dagster.neuroweaver.preparation.duplicates import jaccard, shingles
from auterity_dagster.neuroweaver.scoring import claims
from auterity_dagster.neuroweaver.scoring.families import LENGTH_LIMIT
from auterity_dagster.neuroweaver.verdict import Grade

NEAR_IDENTICAL = 0.9
PAIRS_PER_PROMPT = 2
LONGER_LOW, LONGER_HIGH = 0.45, 0.55


class Candidates(NamedTuple):
    """The answers that the policy and others gave to one prompt."""

    family: Family
    prompt: tuple[Message, ...]
    answers: tuple[str, ...]


class PairSummary(BaseModel):
    """What the judging came to, in numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    compared: int
    pairs: int
    ties: int
    discarded: int
    by_program: int
    chosen_longer: float
    dropped_for_length: int
    cost_nusd: int


class JudgeReport(BaseModel):
    """How a judge did on gold pairs that people labelled."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    judge: str
    rubric_digest: str
    gold_pairs: int
    labelled_twice: int
    agreement_low: float
    human_agreement: float
    critical_pairs: int
    critical_recall: float
    made_at: AwareDatetime


def comparisons(candidates: Candidates) -> tuple[Comparison, ...]:
    """Choose at most two comparisons: the best verified answer against those nearest to mean - 2 standard deviations.

    Near-identical answers are dropped first. No answer that programs object to is ever the better side.
    """
    distinct: list[str] = []
    for answer in candidates.answers:
        folded = " ".join(answer.split())
        if folded and all(jaccard(shingles(folded), shingles(other)) <= NEAR_IDENTICAL for other in distinct):
            distinct.append(folded)
    scored = sorted(((_points(candidates, answer), answer) for answer in distinct), reverse=True)
    verified = [answer for points, answer in scored if points > 0]
    if not verified or len(scored) < 2:
        return ()
    best = verified[0]
    mean = sum(points for points, _ in scored) / len(scored)
    aim = mean - 2 * sqrt(sum((points - mean) ** 2 for points, _ in scored) / len(scored))
    others = sorted((pair for pair in scored if pair[1] != best), key=lambda pair: (abs(pair[0] - aim), pair[1]))
    return tuple(
        # The order alternates with the content, so that "the first one" is no signal to a judge.
        Comparison(candidates.family, candidates.prompt, *((best, other) if best < other else (other, best)))
        for _, other in others[:PAIRS_PER_PROMPT]
    )


def usable(pairs: Iterable[PreferencePair]) -> tuple[tuple[PreferencePair, ...], PairSummary]:
    """Return the pairs that DPO may use, so chosen that the better answer is about as often the longer one as not.

    Pairs of the side that is too frequent are dropped, the least sure ones first.
    """
    compared = tuple(pairs)
    kept = [pair for pair in compared if pair.label == "pair"]
    before = len(kept)
    for is_longer in (True, False):
        side = sorted((pair for pair in kept if _is_longer(pair) is is_longer), key=lambda pair: (pair.p, pair.pair_id))
        limit = LONGER_HIGH if is_longer else 1 - LONGER_LOW
        while side and len(side) / len(kept) > limit and len(side) < len(kept):
            kept.remove(side.pop(0))
    summary = PairSummary(
        compared=len(compared),
        pairs=len(kept),
        ties=sum(pair.label == "tie" for pair in compared),
        discarded=sum(pair.label == "discarded" for pair in compared),
        by_program=sum(pair.decided_by == "program" and pair.label == "pair" for pair in compared),
        chosen_longer=sum(_is_longer(pair) for pair in kept) / max(len(kept), 1),
        dropped_for_length=before - len(kept),
        cost_nusd=sum(vote.cost_nusd for pair in compared for vote in pair.votes),
    )
    return tuple(kept), summary


def grade(*, is_synthetic: bool, judge: str, rubric_digest: str, report: JudgeReport | None, now: datetime) -> Grade:
    """Return how much a preference number is worth; it is printed beside every one.

    `synthetic`: synthetic prompts or a rule-based judge. `ai_gold_verified`: this judge with this rubric agreed with
    people in the last seven days. Otherwise `ai_unverified`.
    """
    if is_synthetic or judge.startswith("sandbox"):
        return "synthetic"
    if report is None or (report.judge, report.rubric_digest) != (judge, rubric_digest):
        return "ai_unverified"
    is_verified = (
        now - report.made_at <= timedelta(days=7)
        and report.gold_pairs >= 300
        and report.labelled_twice >= 100
        and report.agreement_low >= max(0.75, report.human_agreement - 0.05)
        and report.critical_pairs >= 60
        and report.critical_recall >= 0.95
    )
    return "ai_gold_verified" if is_verified else "ai_unverified"


def _points(candidates: Candidates, answer: str) -> float:
    wrong = findings(Comparison(candidates.family, candidates.prompt, answer, answer), answer)
    has_length = 15 <= len(answer) <= LENGTH_LIMIT
    return -1.0 * len(wrong) if wrong else 1.0 + has_length + claims.has_next_step(answer)


def _is_longer(pair: PreferencePair) -> bool:
    return len(pair.chosen) > len(pair.rejected)
