"""Training runs: asked for with a reason and a budget, launched by Dagster's sensor, watched until they end."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field

from auterity_dagster.errors import Invalid
from auterity_dagster.identity.permission import Permission
from auterity_dagster.money import nano_usd
from auterity_dagster.neuroweaver.retraining import Reason
from auterity_dagster.serving.api.page_cursor import Cursor, cursor, position
from auterity_dagster.serving.api.state import State
from auterity_dagster.serving.api.whole_organization import require_whole_organization
from auterity_dagster.serving.authentication import CurrentPrincipal
from auterity_dagster.serving.declared_router import DeclaredRouter
from auterity_dagster.storage.repositories import audit
from auterity_dagster.storage.repositories import retrain_requests as stored
from auterity_dagster.storage.tables.specialisation import RetrainRequestRow

router = DeclaredRouter(prefix="/neuroweaver/training-runs", tags=["NeuroWeaver"])
BODY_LIMIT_BYTES = 8192


class TrainingRunAdd(BaseModel):
    """What to train and for how much. Only `person` and `consent_revoked` may follow a request of the last 7 days."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    recipe: str = Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")
    reason: Reason = "person"
    note: str = Field(default="", max_length=500)
    budget_usd: str = Field(pattern=r"^\d{1,6}(\.\d{1,9})?$")
    conversations: int = Field(default=2000, ge=0, le=100_000)
    dealership_id: UUID | None = None
    consent_id: UUID | None = None


class TrainingRunRead(BaseModel):
    """One request and what became of it: open, started, finished, failed or cancelled; `run_id` is Dagster's."""

    id: UUID
    scope: str
    recipe: str
    reason: str
    evidence: dict[str, Any]
    budget_nusd: int
    state: str
    opened_by: str
    opened_at: datetime
    run_id: str | None
    closed_at: datetime | None


class TrainingRunPage(BaseModel):
    """Training runs, newest first; `next` is null on the last page."""

    training_runs: list[TrainingRunRead]
    next: str | None


@router.post(
    "",
    authentication="user",
    permission=Permission.TRAINING_OPERATE,
    body_limit_bytes=BODY_LIMIT_BYTES,
    audit_class="change",
    status_code=201,
    problems=(409,),
)
async def start_training(state: State, principal: CurrentPrincipal, write: TrainingRunAdd) -> TrainingRunRead:
    """Ask for a training run of the organization's scope; it starts within a minute."""
    require_whole_organization(principal)
    if not (state.settings.config_dir / "recipes" / f"{write.recipe}.yaml").is_file():
        raise Invalid(f"there is no recipe {write.recipe!r}", field="recipe")
    if nano_usd(write.budget_usd) == 0:
        raise Invalid("a training run without money is none: name an amount such as 5.00", field="budget_usd")
    configuration: dict[str, Any] = {"conversations": write.conversations}
    for name in ("dealership_id", "consent_id"):
        if (value := getattr(write, name)) is not None:
            configuration[name] = str(value)
    new = stored.NewRequest(
        organization_id=principal.organization_id,
        scope=f"o-{principal.organization_id.hex[:8]}",
        reason=write.reason,
        evidence={"note": write.note},
        budget_nusd=nano_usd(write.budget_usd),
        recipe=write.recipe,
        configuration=configuration,
        opened_by=str(principal.id),
    )
    async with state.database.begin(principal.organization_id) as session:
        row = await session.run_sync(stored.open_request, new, now=state.clock.now())
        details = {"recipe": row.recipe, "reason": row.reason, "budget_nusd": row.budget_nusd}
        subject = f"training-run/{row.id}"
        await audit.append(session, actor=principal, action="training.requested", subject=subject, details=details)
        return _read(row)


@router.get(
    "", authentication="user_or_api_key", permission=Permission.MODEL_READ, body_limit_bytes=0, audit_class="none"
)
async def list_training_runs(
    state: State,
    principal: CurrentPrincipal,
    after: Cursor = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> TrainingRunPage:
    """Return training runs, newest first."""
    require_whole_organization(principal)
    before = position(after)
    async with state.database.begin(principal.organization_id) as session:
        rows = await session.run_sync(stored.list_requests, before=before, limit=limit + 1)
        shown = rows[:limit]
        is_more = len(rows) > limit
        more = cursor(shown[-1].opened_at, shown[-1].id) if is_more else None
        return TrainingRunPage(training_runs=[_read(row) for row in shown], next=more)


@router.get(
    "/{training_run_id}",
    authentication="user_or_api_key",
    permission=Permission.MODEL_READ,
    body_limit_bytes=0,
    audit_class="none",
)
async def get_training_run(state: State, principal: CurrentPrincipal, training_run_id: UUID) -> TrainingRunRead:
    """Return one training run."""
    require_whole_organization(principal)
    async with state.database.begin(principal.organization_id) as session:
        return _read(await session.run_sync(stored.find_request, training_run_id))


@router.post(
    "/{training_run_id}:cancel",
    authentication="user",
    permission=Permission.TRAINING_OPERATE,
    body_limit_bytes=0,
    audit_class="change",
    problems=(404, 409),
)
async def cancel_training_run(state: State, principal: CurrentPrincipal, training_run_id: UUID) -> TrainingRunRead:
    """Withdraw a training run that has not started."""
    require_whole_organization(principal)
    async with state.database.begin(principal.organization_id) as session:
        row = await session.run_sync(stored.cancel_request, training_run_id, now=state.clock.now())
        subject = f"training-run/{row.id}"
        await audit.append(session, actor=principal, action="training.cancelled", subject=subject, details={})
        return _read(row)


def _read(row: RetrainRequestRow) -> TrainingRunRead:
    return TrainingRunRead.model_validate(row, from_attributes=True)
