"""Challengers of which the truth is known, on their way through the code that decides in production."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import numpy as np

from auterity_dagster.neuroweaver.evaluation import report
from auterity_dagster.neuroweaver.example import EvaluationItem, Family, ItemResult, Message
from auterity_dagster.neuroweaver.promotion import decide, load_promotion_policy
from auterity_dagster.neuroweaver.rollout import Challenge, Observed, next_step
from auterity_dagster.neuroweaver.sequential import MOST_PAIRS, Winner
from auterity_dagster.neuroweaver.verdict import Evidence, Outcome

POLICY = load_promotion_policy(Path(__file__).parents[2] / "config" / "promotion.yaml")
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
DISCORDANCE = 0.1
CLUSTER_ITEMS = 4
HARMLESS = 0.01
WORSE, BETTER = -0.02, 0.05
DIGITS = 64


def questions(count: int) -> tuple[EvaluationItem, ...]:
    return tuple(
        EvaluationItem(
            item_id=f"{number:0{DIGITS}x}",
            family=Family.LEAD_REPLY,
            messages=(Message(role="system", content="s"), Message(role="user", content="u")),
            facts="",
            expected={},
            scorer="lead_reply",
            critical_rules=(),
            cluster=str(number // CLUSTER_ITEMS),
            origin="simulated",
            canary_guid=UUID(int=1),
        )
        for number in range(count)
    )


@dataclass(frozen=True)
class Answers:
    """The two results that an item can have, made once: the simulation only chooses between them."""

    wrong: tuple[ItemResult, ...]
    right: tuple[ItemResult, ...]

    @classmethod
    def of(cls, artefact_digest: str, items: tuple[EvaluationItem, ...]) -> "Answers":
        def results(score: float) -> tuple[ItemResult, ...]:
            return tuple(
                ItemResult(
                    item_id=item.item_id,
                    artefact_digest=artefact_digest,
                    output="Hello. Can you come in on Saturday?",
                    stop_reason="stop",
                    completion_tokens=9,
                    latency_ms=100,
                    score=score,
                )
                for item in items
            )

        return cls(results(0.0), results(1.0))

    def chosen(self, are_right: np.ndarray) -> list[ItemResult]:
        return [
            right if is_right else wrong
            for is_right, right, wrong in zip(are_right, self.right, self.wrong, strict=True)
        ]


class Trial:
    """Sends challengers through gate, shadow and canary; each is `difference` better (or worse) than the champion."""

    def __init__(self, profile: str, *, seed: int) -> None:
        self.profile, self.random = profile, np.random.default_rng(seed)
        self.items = questions(POLICY.profiles[profile].items_per_family)
        self.champion, self.challenger = Answers.of("champion", self.items), Answers.of("challenger", self.items)
        secret = ItemResult.model_validate({**self.challenger.right[0].model_dump(), "artefact_digest": "challenger"})
        self.secrets = [secret] * POLICY.profiles[profile].canaries

    def promoted(self, difference: float) -> bool:
        return self.passes_gate(difference) and self.wins_traffic(difference)

    def passes_gate(self, difference: float) -> bool:
        """One that costs a third less: then only statistics can keep a worse one back."""
        changes = self.random.choice(
            [1, -1, 0],
            size=len(self.items),
            p=[(DISCORDANCE + difference) / 2, (DISCORDANCE - difference) / 2, 1 - DISCORDANCE],
        )
        before = np.where(changes == 0, self.random.random(len(self.items)) < 0.8, changes < 0)
        found = report(
            self.items,
            suite_digest="suite",
            candidate=self.challenger.chosen(np.where(changes == 0, before, changes > 0)),
            champion=self.champion.chosen(before),
            base=(),
            canaries=self.secrets,
            seed=1,
        )
        evidence = Evidence(
            artefact_digest="challenger",
            purpose="production",
            evaluation=found,
            contaminated=0,
            preference_grade=None,
            judge_report_digest=None,
            win_rate=None,
            preference_effect=None,
            cost_nusd=60.0,
            champion_cost_nusd=90.0,
            unsafe_files=(),
            licence="Apache-2.0",
        )
        return decide(evidence, policy=POLICY, profile_name=self.profile, code="x", now=NOW).outcome is Outcome.PASS

    def wins_traffic(self, difference: float) -> bool:
        """Step by step, as the switch does: a decision after each hundred pairs or five hundred requests."""
        now, weight = NOW, 0
        winners: list[Winner] = []
        harms: list[bool] = []
        while True:
            challenge = Challenge(weight, now, Observed(requests=len(harms), harms=harms), winners)
            step = next_step(challenge, now=now + timedelta(hours=7), switches_today=0, last_switch_at=NOW)
            if step.move in ("retire", "roll_back"):
                return False
            if step.move == "promote":
                return True
            if step.move == "advance":
                weight, harms = step.weight_percent, []
            now += timedelta(hours=7)
            winners += self._pairs(difference) if weight == 0 and len(winners) < 12 * MOST_PAIRS else ()
            harms += list(self.random.random(500) < HARMLESS + max(0.0, -difference)) if weight else []

    def _pairs(self, difference: float) -> Iterator[Winner]:
        shares = [(DISCORDANCE + difference) / 2, (DISCORDANCE - difference) / 2, 1 - DISCORDANCE]
        names: tuple[Winner, ...] = ("challenger", "champion", "tie")
        return (names[at] for at in self.random.choice(3, size=100, p=shares))


def not_lower(random: np.random.Generator, difference: float, *, items: int) -> bool:
    """The rule that the gate replaces: promote what is not lower on so many items."""
    shares = [(DISCORDANCE + difference) / 2, (DISCORDANCE - difference) / 2, 1 - DISCORDANCE]
    return random.choice([1, -1, 0], size=items, p=shares).sum() >= 0


def shares(profile: str, *, each: int) -> tuple[float, float]:
    """Return which share was promoted of those that are worse, and of those that are better."""
    trial = Trial(profile, seed=17)
    worse = sum(trial.promoted(WORSE) for _ in range(each))
    better = sum(trial.promoted(BETTER) for _ in range(each))
    return worse / each, better / each


def assert_worse_stay_and_better_come(found: tuple[float, float]) -> None:
    worse, better = found
    assert worse <= 0.05
    assert better >= 0.8
