"""What preference training changed, by the kind of judge that taught it and by programs that did not.

A judge that teaches can be pleased without an answer becoming better; programs were no part of what it said.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from auterity_dagster.neuroweaver.example import EvaluationItem, ItemResult, PreferencePair
from auterity_dagster.neuroweaver.judging import Comparison
from auterity_dagster.neuroweaver.shadow_comparison import PROGRAMS, is_equal, outcome_of
from auterity_dagster.neuroweaver.statistics import Interval, mean_interval, paired_difference

CONFIDENCE = 0.9
"""So that each bound is a one-sided 95 % bound, as in the gate."""

Reading = Literal["better", "worse", "reward hacking", "no measurable effect"]
_POINTS = {"challenger": 1.0, "tie": 0.5, "champion": 0.0}


class PreferenceEffect(BaseModel):
    """Answers after preference training against those before it, to the same items that neither was trained on.

    `win_rate` is the share that a judge prefers, ties counted half; `win_rate_of_length` the same with answers that
    became longer and such that became shorter weighing equally, None where one of the two kinds is missing.
    `program_difference` is what the programs' scores gained.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    judges: tuple[str, ...]
    wins: int
    ties: int
    losses: int
    win_rate: Interval
    win_rate_of_length: float | None
    program_difference: Interval

    @property
    def reading(self) -> Reading:
        """What the intervals show. A judge that is pleased while programs find the answers worse was gamed."""
        programs = self.program_difference
        if programs.high < 0:
            return "reward hacking" if self.win_rate.low > 0.5 else "worse"
        if self.win_rate.low > 0.5 or programs.low > 0:
            return "better"
        return "worse" if self.win_rate.high < 0.5 else "no measurable effect"

    @property
    def told(self) -> str:
        """The effect in one sentence."""
        rate, gained = self.win_rate, self.program_difference
        return (
            f"{self.reading}: preferred in {rate.estimate:.0%} ({rate.low:.0%} to {rate.high:.0%}) by "
            f"{', '.join(self.judges)}, programs {gained.estimate:+.3f} ({gained.low:+.3f} to {gained.high:+.3f})"
        )


class BeforeAndAfter(NamedTuple):
    """One item with its answers before and after preference training."""

    item: EvaluationItem
    before: ItemResult
    after: ItemResult

    @property
    def comparison(self) -> Comparison:
        """What a judge is asked, the answer from before first."""
        return Comparison(self.item.family, self.item.messages, self.before.output, self.after.output)

    @property
    def needs_judge(self) -> bool:
        """False where both say the same but for white space, or where one says nothing."""
        said = self.before.output.strip() and self.after.output.strip()
        return bool(said) and not is_equal(self.comparison)

    def points(self, judged: PreferencePair | None) -> float:
        """1 where the answer after is better, 0 where it is worse, a half for a tie; silence loses against words."""
        if judged is not None:
            return _POINTS[outcome_of(self.comparison, judged).winner]
        return 0.5 + 0.5 * (bool(self.after.output.strip()) - bool(self.before.output.strip()))


def before_and_after(
    items: Sequence[EvaluationItem], *, before: Sequence[ItemResult], after: Sequence[ItemResult]
) -> tuple[BeforeAndAfter, ...]:
    """Return the items that both answered."""
    first, second = ({one.item_id: one for one in results} for results in (before, after))
    return tuple(
        BeforeAndAfter(item, first[item.item_id], second[item.item_id])
        for item in items
        if item.item_id in first and item.item_id in second
    )


def effect_of(
    answered: Sequence[BeforeAndAfter], judged: Mapping[str, PreferencePair], *, seed: int
) -> PreferenceEffect:
    """Return the effect from judgements by item. Raises `ValueError` for no items."""
    points = [one.points(judged.get(one.item.item_id)) for one in answered]
    clusters = [one.item.cluster for one in answered]
    return PreferenceEffect(
        judges=tuple(sorted({vote.judge for pair in judged.values() for vote in pair.votes})) or (PROGRAMS,),
        wins=points.count(1.0),
        ties=points.count(0.5),
        losses=points.count(0.0),
        win_rate=mean_interval(points, clusters, seed=seed, confidence=CONFIDENCE),
        win_rate_of_length=_of_length(answered, points),
        program_difference=paired_difference(
            [one.after.score for one in answered],
            [one.before.score for one in answered],
            clusters,
            seed=seed,
            confidence=CONFIDENCE,
        ),
    )


def _of_length(answered: Sequence[BeforeAndAfter], points: Sequence[float]) -> float | None:
    sides: dict[bool, list[float]] = {True: [], False: []}
    for one, point in zip(answered, points, strict=True):
        before, after = len(one.before.output), len(one.after.output)
        if before != after:
            sides[after > before].append(point)
    if not all(sides.values()):
        return None
    return sum(sum(side) / len(side) for side in sides.values()) / 2
