"""A verdict: what was decided about which bytes, on which evidence, until when, and whether it still holds."""

from datetime import datetime
from enum import StrEnum
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from auterity_dagster.neuroweaver.evaluation import EvaluationReport
from auterity_dagster.neuroweaver.jsonl import digest
from auterity_dagster.neuroweaver.preference_effect import PreferenceEffect
from auterity_dagster.neuroweaver.statistics import Interval


class Outcome(StrEnum):
    """What a gate found: `FAIL` is shown broken, `INCONCLUSIVE` is not shown sound; neither promotes."""

    PASS = "PASS"  # noqa: S105 - a verdict
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"


Grade = Literal["synthetic", "ai_unverified", "ai_gold_verified"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Profile(_Part):
    """How much must be shown before a candidate may take which traffic."""

    items_per_family: int = Field(ge=1)
    margin: float = Field(gt=0, lt=1)
    critical_limit: float = Field(gt=0, lt=1)
    latency_ratio: float | None = Field(gt=0, le=10)
    latency_limit_ms: float | None = Field(gt=0)
    stop_rate: float = Field(gt=0, le=1)
    json_rate: float = Field(gt=0, le=1)
    refusal_rate: float = Field(ge=0, lt=1)
    benign_items: int = Field(ge=1)
    canaries: int = Field(ge=1)
    cost_saving: float = Field(gt=0, lt=1)
    grades: tuple[Grade, ...] = Field(min_length=1)
    licences: tuple[str, ...] = Field(min_length=1)
    may_route: Literal["demo organizations", "25 percent", "100 percent"]
    valid_days: int = Field(ge=1, le=365)


class Evidence(_Part):
    """All that is known about one artefact. What is None was not measured, and what was not measured never passes."""

    artefact_digest: str
    purpose: Literal["production", "demo", "test"]
    evaluation: EvaluationReport | None
    contaminated: int | None
    preference_grade: Grade | None
    judge_report_digest: str | None
    win_rate: Interval | None
    preference_effect: PreferenceEffect | None
    cost_nusd: float | None
    champion_cost_nusd: float | None
    unsafe_files: tuple[str, ...] | None
    licence: str | None


class GateResult(_Part):
    """The answer to one question, in words."""

    gate: str
    outcome: Outcome
    reason: str


class Verdict(_Part):
    """What was decided about which bytes, on which evidence, until when."""

    outcome: Outcome
    gates: tuple[GateResult, ...]
    artefact_digest: str
    champion_digest: str | None
    suite_digest: str | None
    evaluation_digest: str | None
    judge_report_digest: str | None
    preference_grade: Grade | None
    profile: str
    profile_digest: str
    may_route: str
    code: str
    decided_at: AwareDatetime
    expires_at: AwareDatetime

    @property
    def verdict_digest(self) -> str:
        """The verdict's content address; a changed word is another verdict."""
        return digest(self.model_dump(mode="json"))


def why_not(verdict: Verdict | None, *, artefact_digest: str, champion_digest: str | None, now: datetime) -> str | None:
    """Return why an artefact may not be registered, deployed or routed now; None if it may.

    `champion_digest` is the route that holds today: a verdict ends with the champion that it compared with. Pass None
    where the artefact itself is the champion already.
    """
    if verdict is None:
        return "there is no verdict for this artefact"
    if verdict.artefact_digest != artefact_digest:
        return "the verdict is for another artefact"
    if verdict.outcome is not Outcome.PASS:
        return f"the verdict is {verdict.outcome}"
    if now >= verdict.expires_at:
        return f"the verdict ended on {verdict.expires_at:%Y-%m-%d}"
    if champion_digest is not None and verdict.champion_digest != champion_digest:
        return "the champion has changed since the verdict"
    return None
