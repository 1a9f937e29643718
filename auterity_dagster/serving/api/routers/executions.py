"""Executions: listed, looked into, started by hand or for an audience, cancelled."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID, uuid4

from fastapi import Header, Query
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from auterity_dagster.automatrix.workflow import Audience
from auterity_dagster.errors import NotFound
from auterity_dagster.identity.permission import Permission
from auterity_dagster.identity.principal import Principal
from auterity_dagster.serving.api.page_cursor import Cursor, cursor, position
from auterity_dagster.serving.api.state import State
from auterity_dagster.serving.authentication import CurrentPrincipal
from auterity_dagster.serving.declared_router import DeclaredRouter
from auterity_dagster.storage.repositories import audiences, audit, executions
from auterity_dagster.storage.repositories.audiences import Subject, Wanted
from auterity_dagster.storage.repositories.batches import Batch, start_batch
from auterity_dagster.storage.repositories.executions import ExecutionDetail, ExecutionFilter, ExecutionSummary
from auterity_dagster.storage.repositories.organizations import require_dealerships

router = DeclaredRouter(tags=["executions"])
BODY_LIMIT_BYTES = 2 * 1024 * 1024
SUBJECTS_LIMIT = 1000
Line = Annotated[str, StringConstraints(min_length=1, max_length=200, strip_whitespace=True)]
READ: dict[str, Any] = {
    "authentication": "user_or_api_key",
    "permission": Permission.EXECUTION_READ,
    "body_limit_bytes": 0,
    "audit_class": "none",
}


class _Write(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SubjectWrite(_Write):
    """Whom or what one execution is about, and what it is told as `event.data`."""

    subject: Line
    data: dict[str, Any] = {}


class AudienceWrite(_Write):
    """A named query from code."""

    name: Audience
    by: AwareDatetime | None = None
    limit: Annotated[int, Field(ge=1, le=SUBJECTS_LIMIT)] = SUBJECTS_LIMIT


class StartWrite(_Write):
    """Subjects by name, or an audience."""

    dealership_id: UUID
    subjects: Annotated[tuple[SubjectWrite, ...], Field(max_length=SUBJECTS_LIMIT)] = ()
    audience: AudienceWrite | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> "StartWrite":
        if bool(self.subjects) == (self.audience is not None):
            raise ValueError("either subjects or an audience")
        return self


class StartedRead(BaseModel):
    """The executions that were started; subjects that had been started under the same key are not among them."""

    batch: str
    execution_ids: list[UUID]


class ExecutionRead(BaseModel):
    """One execution; `received_at` is when its event came in, times that did not come yet are null."""

    id: UUID
    workflow: str
    version: int
    dealership_id: UUID
    subject: str
    job: str
    lane: str
    state: str
    run_id: str | None
    received_at: datetime
    first_step_started_at: datetime | None
    draft_finished_at: datetime | None
    finished_at: datetime | None
    cost_nusd: int
    error: dict[str, Any] | None
    parent_id: UUID | None
    replay_of: UUID | None


class StepRead(BaseModel):
    """One attempt at one step."""

    model_config = ConfigDict(from_attributes=True)

    path: str
    attempt: int
    kind: str
    state: str
    starts: int
    output: dict[str, Any] | None
    error: dict[str, Any] | None
    deployment: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    cost_nusd: int | None
    retry_at: datetime | None
    started_at: datetime
    finished_at: datetime | None


class EffectRead(BaseModel):
    """Something that left the house, or was meant to."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    key: str
    path: str
    kind: str
    state: str
    provider_ref: str | None
    intended_at: datetime
    resolved_at: datetime | None


class TaskRead(BaseModel):
    """Something for a person."""

    model_config = ConfigDict(from_attributes=True)

    path: str
    role: str
    title: str
    state: str
    due_at: datetime


class ExecutionDetailRead(ExecutionRead):
    """One execution with everything recorded about it."""

    event: dict[str, Any]
    variables: dict[str, Any]
    outputs: dict[str, Any] | None
    steps: list[StepRead]
    approval_ids: list[UUID]
    effects: list[EffectRead]
    tasks: list[TaskRead]


class ExecutionPage(BaseModel):
    """Executions, newest first; `next` continues the list, null at its end."""

    items: list[ExecutionRead]
    next: str | None


@router.get("/executions", **READ)
async def list_executions(
    state: State,
    principal: CurrentPrincipal,
    execution_state: Annotated[str | None, Query(alias="state")] = None,
    workflow: Annotated[str | None, Query(max_length=200)] = None,
    subject: Annotated[str | None, Query(max_length=200)] = None,
    error: Annotated[str | None, Query(max_length=100)] = None,
    after: Cursor = None,
    limit: Annotated[int, Query(ge=1, le=executions.PAGE_LIMIT)] = 100,
) -> ExecutionPage:
    """Return a page."""
    wanted = ExecutionFilter(
        state=execution_state,
        workflow=workflow,
        subject=subject,
        error=error,
        before=position(after),
        limit=limit,
    )
    async with state.database.begin(principal.organization_id) as session:
        found = await executions.list_executions(session, principal, wanted)
    last = found[-1].row if len(found) == limit else None
    return ExecutionPage(
        items=[_summary(one) for one in found],
        next=None if last is None else cursor(last.created_at, last.id),
    )


@router.get("/executions/{execution_id}", **READ)
async def read_execution(state: State, principal: CurrentPrincipal, execution_id: UUID) -> ExecutionDetailRead:
    """Return one execution with its steps, times, effects and tasks."""
    async with state.database.begin(principal.organization_id) as session:
        found = await executions.find(session, principal, execution_id)
    return _detail(found)


@router.post(
    "/executions/{execution_id}/cancel",
    authentication="user",
    permission=Permission.EXECUTION_OPERATE,
    body_limit_bytes=0,
    audit_class="change",
    problems=(409,),
)
async def cancel_execution(state: State, principal: CurrentPrincipal, execution_id: UUID) -> dict[str, str]:
    """Stop an execution; one that a worker holds ends before its next action."""
    async with state.database.begin(principal.organization_id) as session:
        status = await executions.cancel(session, principal, execution_id, now=state.clock.now())
    return {"state": status.value}


@router.post(
    "/workflows/{key}/executions",
    status_code=202,
    authentication="user_or_api_key",
    permission=Permission.EXECUTION_OPERATE,
    body_limit_bytes=BODY_LIMIT_BYTES,
    audit_class="change",
    problems=(429,),
)
async def start_executions(
    state: State,
    principal: CurrentPrincipal,
    key: str,
    body: StartWrite,
    idempotency_key: Annotated[str | None, Header(max_length=100)] = None,
) -> StartedRead:
    """Start one execution for each subject; repeating with the same `Idempotency-Key` starts nothing twice."""
    _require_dealership(principal, body.dealership_id)
    name = f"manual:{idempotency_key or uuid4()}"
    async with state.database.begin(principal.organization_id) as session:
        await require_dealerships(session, frozenset({body.dealership_id}))
        if body.audience is None:
            subjects = [Subject(one.subject, one.data) for one in body.subjects]
        else:
            by = body.audience.by or state.clock.now()
            wanted = Wanted(body.dealership_id, by, body.audience.limit)
            subjects = await audiences.expand(session, body.audience.name, wanted)
        lane = "interactive" if len(subjects) == 1 and body.audience is None else "batch"
        batch = Batch(name, "execution.requested", body.dealership_id, subjects, lane)
        started = await start_batch(session, key, batch, now=state.clock.now())
        await audit.append(
            session, actor=principal, action="execution.started", subject=f"workflow/{key}",
            details={"batch": name, "executions": len(started)},
        )  # fmt: skip
    return StartedRead(batch=name, execution_ids=list(started))


def _require_dealership(principal: Principal, dealership_id: UUID) -> None:
    if not principal.may_see(dealership_id):
        raise NotFound("there is no such dealership")


def _summary(found: ExecutionSummary) -> ExecutionRead:
    return ExecutionRead(**_fields(found))


def _fields(found: ExecutionSummary) -> dict[str, Any]:
    row = found.row
    return {
        "id": row.id,
        "workflow": found.workflow_key,
        "version": found.version_number,
        "dealership_id": row.dealership_id,
        "subject": row.subject,
        "job": row.job,
        "lane": row.lane,
        "state": row.state,
        "run_id": row.run_id,
        "received_at": row.received_at,
        "first_step_started_at": found.first_step_started_at,
        "draft_finished_at": found.draft_finished_at,
        "finished_at": row.finished_at,
        "cost_nusd": found.cost_nusd,
        "error": row.error,
        "parent_id": row.parent_id,
        "replay_of": row.replay_of,
    }


def _detail(found: ExecutionDetail) -> ExecutionDetailRead:
    return ExecutionDetailRead(
        **_fields(found.summary),
        event=found.summary.row.event,
        variables=found.summary.row.variables,
        outputs=found.summary.row.outputs,
        steps=[StepRead.model_validate(one) for one in found.steps],
        approval_ids=[one.id for one in found.approvals],
        effects=[EffectRead.model_validate(one) for one in found.effects],
        tasks=[TaskRead.model_validate(one) for one in found.tasks],
    )
