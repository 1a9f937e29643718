"""The gate: every question can fail, what was not measured never passes, and a verdict holds for its own bytes only."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from auterity_dagster.errors import ConfigurationInvalid
from auterity_dagster.neuroweaver.evaluation import EvaluationReport, FamilyReport
from auterity_dagster.neuroweaver.example import Family
from auterity_dagster.neuroweaver.preference_effect import PreferenceEffect
from auterity_dagster.neuroweaver.promotion import decide, load_promotion_policy
from auterity_dagster.neuroweaver.statistics import Interval, paired_difference, upper_bound
from auterity_dagster.neuroweaver.verdict import Evidence, Outcome, Verdict, why_not

POLICY = load_promotion_policy(Path(__file__).parents[2] / "config" / "promotion.yaml")
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
EQUAL = Interval(0.0, -0.03, 0.03)


def family(**changes: object) -> FamilyReport:
    values: dict[str, object] = {
        "family": Family.LEAD_REPLY,
        "items": 32,
        "candidate": Interval(0.9, 0.87, 0.93),
        "champion": Interval(0.9, 0.87, 0.93),
        "base": None,
        "difference": EQUAL,
        "lift": None,
        "wins": 2,
        "losses": 2,
        "p_holm": 1.0,
        "critical": {},
        "critical_champion": 0,
    }
    return FamilyReport.model_validate(values | changes)


def evaluation(**changes: object) -> EvaluationReport:
    values: dict[str, object] = {
        "artefact_digest": "artefact",
        "champion_digest": "champion",
        "base_digest": None,
        "suite_digest": "suite",
        "families": (family(), family(family=Family.SERVICE_REMINDER)),
        "answers": 64,
        "missing": 0,
        "critical_events": 0,
        "critical_upper": upper_bound(0, 64, confidence=0.95),
        "stopped": 64,
        "json_expected": 0,
        "json_valid": 0,
        "refusals": 0,
        "p95_ms": 2000.0,
        "p95_champion_ms": 10.0,
        "canaries": 10,
        "canaries_extracted": 0,
    }
    return EvaluationReport.model_validate(values | changes)


def evidence(**changes: object) -> Evidence:
    values: dict[str, object] = {
        "artefact_digest": "artefact",
        "purpose": "demo",
        "evaluation": evaluation(),
        "contaminated": 0,
        "preference_grade": "synthetic",
        "judge_report_digest": None,
        "win_rate": None,
        "preference_effect": None,
        "cost_nusd": 10.0,
        "champion_cost_nusd": 100.0,
        "unsafe_files": (),
        "licence": "Apache-2.0",
    }
    return Evidence.model_validate(values | changes)


def verdict(found: Evidence, profile: str = "embedded") -> Verdict:
    return decide(found, policy=POLICY, profile_name=profile, code="test", now=NOW)


def test_sound_evidence_passes_with_ten_reasons() -> None:
    decided = verdict(evidence())

    assert decided.outcome is Outcome.PASS, decided.gates
    assert [gate.gate for gate in decided.gates] == [f"G{number}" for number in range(10)]
    assert all(gate.reason for gate in decided.gates)


@pytest.mark.parametrize(
    ("gate", "broken", "outcome"),
    [
        ("G0", lambda: evidence(evaluation=evaluation(artefact_digest="other")), Outcome.FAIL),
        ("G0", lambda: evidence(evaluation=evaluation(missing=1)), Outcome.INCONCLUSIVE),
        ("G0", lambda: evidence(purpose="test"), Outcome.INCONCLUSIVE),
        ("G1", lambda: evidence(evaluation=evaluation(critical_events=1)), Outcome.FAIL),
        ("G1", lambda: evidence(evaluation=evaluation(critical_upper=0.06)), Outcome.INCONCLUSIVE),
        ("G2", lambda: with_family(difference=Interval(-0.3, -0.4, -0.2)), Outcome.FAIL),
        ("G2", lambda: with_family(difference=Interval(-0.1, -0.2, 0.0)), Outcome.INCONCLUSIVE),
        ("G2", lambda: with_family(items=31), Outcome.INCONCLUSIVE),
        ("G3", lambda: evidence(cost_nusd=90.0), Outcome.INCONCLUSIVE),
        ("G3", lambda: evidence(cost_nusd=None), Outcome.INCONCLUSIVE),
        ("G4", lambda: evidence(evaluation=evaluation(stopped=40)), Outcome.FAIL),
        ("G4", lambda: evidence(evaluation=evaluation(stopped=62)), Outcome.INCONCLUSIVE),
        ("G4", lambda: evidence(evaluation=evaluation(json_expected=32, json_valid=10)), Outcome.FAIL),
        ("G4", lambda: evidence(evaluation=evaluation(p95_ms=31_000.0)), Outcome.FAIL),
        ("G5", lambda: evidence(contaminated=1), Outcome.FAIL),
        ("G5", lambda: evidence(contaminated=None), Outcome.INCONCLUSIVE),
        ("G6", lambda: evidence(preference_effect=effect(-0.1, -0.15, -0.05)), Outcome.FAIL),
        ("G7", lambda: evidence(evaluation=evaluation(refusals=20)), Outcome.FAIL),
        ("G8", lambda: evidence(unsafe_files=("training_args.bin",)), Outcome.FAIL),
        ("G8", lambda: evidence(licence="proprietary"), Outcome.FAIL),
        ("G8", lambda: evidence(unsafe_files=None), Outcome.INCONCLUSIVE),
        ("G9", lambda: evidence(evaluation=evaluation(canaries_extracted=1)), Outcome.FAIL),
        ("G9", lambda: evidence(evaluation=evaluation(canaries=4)), Outcome.INCONCLUSIVE),
    ],
)
def test_each_gate_can_keep_a_candidate_back(gate: str, broken: Callable[[], Evidence], outcome: Outcome) -> None:
    decided = verdict(broken())

    assert decided.outcome is outcome
    assert {one.gate: one.outcome for one in decided.gates if one.outcome is not Outcome.PASS} == {gate: outcome}


def effect(estimate: float, low: float, high: float) -> PreferenceEffect:
    """A judge that prefers what preference training made, and what programs make of the same answers."""
    return PreferenceEffect(
        judges=("judge-small",),
        wins=80,
        ties=0,
        losses=20,
        win_rate=Interval(0.8, 0.7, 0.9),
        win_rate_of_length=0.8,
        program_difference=Interval(estimate, low, high),
    )


def test_an_effect_that_programs_do_not_deny_keeps_nobody_back() -> None:
    assert verdict(evidence(preference_effect=effect(-0.1, -0.25, 0.05))).outcome is Outcome.PASS


def with_family(**changes: object) -> Evidence:
    return evidence(evaluation=evaluation(families=(family(**changes), family(family=Family.SERVICE_REMINDER))))


def test_nothing_measured_passes_nothing() -> None:
    nothing = evidence(
        evaluation=None, contaminated=None, preference_grade=None, unsafe_files=None, licence=None, cost_nusd=None
    )

    decided = verdict(nothing)

    assert decided.outcome is Outcome.INCONCLUSIVE
    assert [one.gate for one in decided.gates if one.outcome is Outcome.PASS] == ["G6"]


def test_a_small_sample_is_told_what_it_needs() -> None:
    decided = verdict(with_family(items=8))

    reason = next(one.reason for one in decided.gates if one.gate == "G2")
    assert "32 items needed, 8 used, which can show 28%" in reason


def test_other_profiles_ask_for_more_and_a_synthetic_grade_is_not_enough_there() -> None:
    decided = verdict(evidence(), "standard")

    assert decided.outcome is not Outcome.PASS
    assert next(one.outcome for one in decided.gates if one.gate == "G6") is Outcome.INCONCLUSIVE


def test_an_unknown_profile_is_said() -> None:
    with pytest.raises(ConfigurationInvalid, match="no promotion profile 'nightly'"):
        verdict(evidence(), "nightly")


def test_a_changed_word_is_another_verdict() -> None:
    decided = verdict(evidence())

    assert decided.verdict_digest == verdict(evidence()).verdict_digest
    assert decided.model_copy(update={"outcome": Outcome.FAIL}).verdict_digest != decided.verdict_digest
    assert Verdict.model_validate_json(decided.model_dump_json()).verdict_digest == decided.verdict_digest


def test_a_door_opens_for_a_passed_verdict_of_these_bytes_only() -> None:
    passed = verdict(evidence())
    failed = verdict(evidence(contaminated=3))

    def door(
        found: Verdict | None, *, artefact: str = "artefact", champion: str = "champion", days: int = 0
    ) -> str | None:
        return why_not(found, artefact_digest=artefact, champion_digest=champion, now=NOW + timedelta(days=days))

    assert door(passed) is None
    assert door(None) == "there is no verdict for this artefact"
    assert door(failed) == "the verdict is FAIL"
    assert door(passed, artefact="other") == "the verdict is for another artefact"
    assert door(passed, champion="newer") == "the champion has changed since the verdict"
    assert door(passed, days=14) == "the verdict ended on 2026-12-08"


def differences(random: np.random.Generator, *, items: int, discordance: float, true_difference: float) -> list[float]:
    better = (discordance + true_difference) / 2
    worse = (discordance - true_difference) / 2
    return [float(one) for one in random.choice([1.0, -1.0, 0.0], size=items, p=[better, worse, 1 - discordance])]


def promoted(found: list[float]) -> bool:
    clusters = [str(at) for at in range(len(found))]
    interval = paired_difference(found, [0.0] * len(found), clusters, seed=1, confidence=0.9)
    return verdict(with_family(items=len(found), difference=interval)).outcome is Outcome.PASS


def test_of_simulated_worse_candidates_few_are_promoted() -> None:
    random = np.random.default_rng(11)

    worse = [promoted(differences(random, items=32, discordance=0.2, true_difference=-0.15)) for _ in range(150)]

    assert sum(worse) / len(worse) <= 0.1


def test_of_simulated_equal_candidates_most_are_promoted() -> None:
    random = np.random.default_rng(12)

    equal = [promoted(differences(random, items=32, discordance=0.1, true_difference=0.0)) for _ in range(100)]

    assert sum(equal) / len(equal) >= 0.75


def test_not_lower_at_fifty_items_would_promote_far_too_many() -> None:
    random = np.random.default_rng(13)

    worse = [sum(differences(random, items=50, discordance=0.1, true_difference=-0.02)) >= 0 for _ in range(1000)]

    assert sum(worse) / len(worse) > 0.3
