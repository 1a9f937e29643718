"""What each stage of the demo found out: the state that an interrupted demo goes on from, and the report's source."""

from datetime import datetime
from pathlib import Path
from typing import Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict


class Result(BaseModel):
    """A stage's result; strict, so that a state file of another version is noticed."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class DealershipAccess(Result):
    """One demo dealership and how its lead sender reaches it."""

    dealership_id: UUID
    name: str
    hook_url: str
    hook_secret: str


class OrganizationResult(Result):
    """The demo organization and the credentials that the later stages use."""

    organization_id: UUID
    name: str
    owner_email: str
    manager_email: str
    password: str
    api_key: str
    bill_before_nusd: int
    dealerships: tuple[DealershipAccess, ...]


class FamilyFigures(Result):
    """Mean scores of one family on held-out items; the specialised model's lift over the base, with its interval."""

    family: str
    items: int
    base: float
    sft: float
    dpo: float
    champion: float
    lift: float
    lift_low: float
    lift_high: float


class TrainingRun(Result):
    """One Dagster run of the model chain."""

    run_id: str
    status: str
    step_seconds: dict[str, float]


class SpecialisationResult(Result):
    """What the chain from rows to a served model gave."""

    run: TrainingRun
    recipe: str
    artefact_digest: str | None
    verdict: str
    reasons: tuple[str, ...]
    families: tuple[FamilyFigures, ...]
    has_dpo: bool
    """False where there were too few pairs: what is served is the SFT adapter then."""
    preference_effect: str
    model_version: str | None
    deployment_id: str | None
    mlflow_run_urls: tuple[str, ...]


class SdkAnswer(Result):
    """One answer that the official OpenAI SDK got through the gateway."""

    model: str
    is_stream: bool
    deployment: str
    text: str
    cost_nusd: int | None


class GatewayResult(Result):
    """A developer's first calls."""

    answers: tuple[SdkAnswer, ...]
    explanation: tuple[str, ...]


class QuarantinedLead(Result):
    """A document that a person has to look at."""

    file: str
    reason: str
    line: int | None


class LeadTimes(Result):
    """Seconds from the webhook's 202; `count` executions were measured."""

    count: int
    p50_s: float
    p95_s: float


class LeadsResult(Result):
    """What became of the posted documents."""

    posted: int
    executions: int
    succeeded: int
    failed: int
    waiting: int
    approved: int
    duplicates: int
    quarantined: tuple[QuarantinedLead, ...]
    messages: int
    webhook_to_first_step: LeadTimes
    webhook_to_draft: LeadTimes


class RemindersResult(Result):
    """What became of the service reminder batch."""

    customers: int
    succeeded: int
    failed: int
    waiting: int
    messages: int
    wall_s: float


class DeploymentSpend(Result):
    """One deployment's traffic, and what its tokens would have cost on the most expensive deployment."""

    deployment: str
    requests: int
    prompt_tokens: int
    completion_tokens: int
    cost_nusd: int
    comparison_nusd: int


class MoneyResult(Result):
    """The ledger beside the sandbox provider's own bill."""

    deployments: tuple[DeploymentSpend, ...]
    most_expensive: str
    ledger_sandbox_nusd: int
    sandbox_bill_nusd: int
    entries_sum_nusd: int
    held_nusd: int
    unknown_nusd: int

    @property
    def is_exact(self) -> bool:
        """True if ledger and bill agree to the nano-dollar and double entry balances."""
        return self.ledger_sandbox_nusd == self.sandbox_bill_nusd and self.entries_sum_nusd == 0


class DemoState(BaseModel):
    """Everything known so far; rewritten after each stage."""

    model_config = ConfigDict(extra="forbid")

    is_quick: bool
    started_at: datetime
    finished_at: datetime | None = None
    wall_s: dict[str, float] = {}
    addresses: dict[str, str] = {}
    organization: OrganizationResult | None = None
    specialisation: SpecialisationResult | None = None
    gateway: GatewayResult | None = None
    leads: LeadsResult | None = None
    reminders: RemindersResult | None = None
    money: MoneyResult | None = None

    @classmethod
    def load(cls, path: Path) -> Self | None:
        """Read the state file; None if there is none, or one of another version."""
        if not path.exists():
            return None
        try:
            return cls.model_validate_json(path.read_bytes())
        except ValueError:
            return None

    def save(self, path: Path) -> None:
        """Write by rename, readable by the owner only: it holds the demo's credentials."""
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.touch(mode=0o600)
        partial.write_text(self.model_dump_json(indent=2))
        partial.replace(path)
