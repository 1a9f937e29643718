"""The gate's decision: evidence in, a verdict out that is bound to the bytes it judged.

Registration, deployment and routing each ask `verdict.why_not` again, and fail closed.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from auterity_dagster.errors import ConfigurationInvalid
from auterity_dagster.neuroweaver import gates
from auterity_dagster.neuroweaver.configuration import read_configuration
from auterity_dagster.neuroweaver.jsonl import digest
from auterity_dagster.neuroweaver.verdict import Evidence, Outcome, Profile, Verdict


class PromotionPolicy(BaseModel):
    """`config/promotion.yaml`: the profiles by name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    profiles: Mapping[str, Profile]


def load_promotion_policy(path: Path) -> PromotionPolicy:
    """Read the profiles. Raises `ConfigurationInvalid` naming file and field."""
    return read_configuration(path, PromotionPolicy)


def decide(evidence: Evidence, *, policy: PromotionPolicy, profile_name: str, code: str, now: datetime) -> Verdict:
    """Answer every gate and bind the verdict to what it judged.

    PASS: all hold. FAIL: one is shown broken. Otherwise INCONCLUSIVE. Raises `ConfigurationInvalid` for an unknown
    profile. `code` names the version of the rules that decided.
    """
    profile = policy.profiles.get(profile_name)
    if profile is None:
        raise ConfigurationInvalid(f"there is no promotion profile {profile_name!r}: {sorted(policy.profiles)}")
    results = gates.answered(evidence, profile)
    outcomes = {result.outcome for result in results}
    outcome = next((one for one in (Outcome.FAIL, Outcome.INCONCLUSIVE) if one in outcomes), Outcome.PASS)
    evaluation = evidence.evaluation
    return Verdict(
        outcome=outcome,
        gates=results,
        artefact_digest=evidence.artefact_digest,
        champion_digest=evaluation.champion_digest if evaluation else None,
        suite_digest=evaluation.suite_digest if evaluation else None,
        evaluation_digest=evaluation.digest if evaluation else None,
        judge_report_digest=evidence.judge_report_digest,
        preference_grade=evidence.preference_grade,
        profile=profile_name,
        profile_digest=digest(profile.model_dump(mode="json")),
        may_route=profile.may_route,
        code=code,
        decided_at=now,
        expires_at=now + timedelta(days=profile.valid_days),
    )
