"""What a person does about executions beside looking: understand one, replay it, change many at once."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID, uuid4

from fastapi import Header
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from auterity_dagster.automatrix.why import Awaited, FailedStep
from auterity_dagster.identity.permission import Permission
from auterity_dagster.serving.api.routers.executions import EffectRead
from auterity_dagster.serving.api.state import State
from auterity_dagster.serving.authentication import CurrentPrincipal
from auterity_dagster.serving.declared_router import DeclaredRouter
from auterity_dagster.storage.repositories import effect_resolution, execution_bulk, execution_replay, execution_why
from auterity_dagster.storage.repositories.execution_bulk import Bulk, BulkFilter
from auterity_dagster.storage.repositories.execution_replay import ReplayWish

router = DeclaredRouter(tags=["executions"])
BODY_LIMIT_BYTES = 64 * 1024
OPERATE: dict[str, Any] = {
    "authentication": "user",
    "permission": Permission.EXECUTION_OPERATE,
    "body_limit_bytes": BODY_LIMIT_BYTES,
    "audit_class": "change",
}
Name = Annotated[str, Field(min_length=1, max_length=200)]
IdempotencyKey = Annotated[str | None, Header(pattern=r"^[!-~]{1,100}$")]


class _Write(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FailedStepRead(BaseModel):
    """A step whose last attempt failed."""

    path: str
    attempts: int
    code: str
    message: str


class AwaitedRead(BaseModel):
    """Something that the execution waits for; `until` is null if nothing ends it but itself."""

    kind: str
    path: str | None
    what: str
    until: datetime | None


class WhyRead(BaseModel):
    """Where an execution stands, in one sentence, what stands behind it, and what can be done."""

    state: str
    summary: str
    failed: list[FailedStepRead]
    waits_for: list[AwaitedRead]
    actions: list[str]


class ExecutionReplayWrite(_Write):
    """From which step (null: the first that is not done), in which version, with which fields of the data changed.

    With `sends_again` messages and calls that were made before are made once more.
    """

    start: Annotated[Name | None, Field(alias="from")] = None
    version: Literal["same", "newest"] = "same"
    data: dict[str, Any] = {}
    sends_again: bool = False


class ExecutionReplayRead(BaseModel):
    """The new execution, where it begins, and the paths whose results it took over."""

    execution_id: UUID
    start: Annotated[str, Field(serialization_alias="from")]
    kept: list[str]


class EffectResolve(_Write):
    """What a person found out: it was sent, or it was not."""

    state: Literal["confirmed", "failed"]


class BulkFilterWrite(_Write):
    """Which executions; what is not said does not filter."""

    state: Name | None = None
    workflow: Name | None = None
    error: Name | None = None
    created_after: AwareDatetime | None = None
    created_before: AwareDatetime | None = None


class ExecutionBulkWrite(_Write):
    """What to do to which executions; as a `dry_run`, which it is unless it says otherwise, it only counts them."""

    action: Literal["cancel", "replay"]
    filter: BulkFilterWrite
    dry_run: bool = True


class RefusedRead(BaseModel):
    """An execution to which it could not be done."""

    execution_id: UUID
    reason: str


class ExecutionBulkRead(BaseModel):
    """What was changed, or would be; `left` says that more match than one call changes."""

    dry_run: bool
    execution_ids: list[UUID]
    refused: list[RefusedRead]
    left: bool


@router.get(
    "/executions/{execution_id}/why",
    authentication="user_or_api_key",
    permission=Permission.EXECUTION_READ,
    body_limit_bytes=0,
    audit_class="none",
)
async def why(state: State, principal: CurrentPrincipal, execution_id: UUID) -> WhyRead:
    """Say why an execution stands where it stands, and what can be done about it."""
    async with state.database.begin(principal.organization_id) as session:
        row, found = await execution_why.why(session, principal, execution_id)
    return WhyRead(
        state=row.state,
        summary=found.summary,
        failed=[_failed(one) for one in found.failed],
        waits_for=[_awaited(one) for one in found.awaited],
        actions=list(found.actions),
    )


@router.post("/executions/{execution_id}/replay", status_code=202, **OPERATE, problems=(409, 429))
async def replay(
    state: State,
    principal: CurrentPrincipal,
    execution_id: UUID,
    body: ExecutionReplayWrite,
    idempotency_key: IdempotencyKey = None,
) -> ExecutionReplayRead:
    """Do an execution that is over again from one of its steps; nothing is sent twice unless that is asked for."""
    wish = ReplayWish(body.start, body.version, body.data, idempotency_key or str(uuid4()), body.sends_again)
    async with state.database.begin(principal.organization_id) as session:
        done = await session.run_sync(
            execution_replay.replay, principal, execution_id, wish,
            expressions=state.workflows.expressions, now=state.clock.now(),
        )  # fmt: skip
    return ExecutionReplayRead(execution_id=done.execution_id, start=done.start, kept=list(done.kept))


@router.post("/side-effects/{effect_id}/resolve", **OPERATE, problems=(404, 409))
async def resolve_effect(state: State, principal: CurrentPrincipal, effect_id: UUID, body: EffectResolve) -> EffectRead:
    """Say whether a message was sent that may have been: a replay sends one that was not, and no other."""
    async with state.database.begin(principal.organization_id) as session:
        settled = await effect_resolution.resolve(session, principal, effect_id, body.state, now=state.clock.now())
    return EffectRead.model_validate(settled)


@router.post("/executions/bulk", **OPERATE, problems=(429,))
async def change_many(
    state: State, principal: CurrentPrincipal, body: ExecutionBulkWrite, idempotency_key: IdempotencyKey = None
) -> ExecutionBulkRead:
    """Cancel or replay what a filter finds, 1,000 executions a call, oldest first."""
    bulk = Bulk(body.action, BulkFilter(**body.filter.model_dump()), idempotency_key or str(uuid4()))
    async with state.database.begin(principal.organization_id) as session:
        if body.dry_run:
            found = await session.run_sync(execution_bulk.find, principal, bulk)
        else:
            found = await session.run_sync(
                execution_bulk.change, principal, bulk,
                expressions=state.workflows.expressions, now=state.clock.now(),
            )  # fmt: skip
    return ExecutionBulkRead(
        dry_run=body.dry_run,
        execution_ids=list(found.executions),
        refused=[RefusedRead(execution_id=one, reason=reason) for one, reason in found.refused],
        left=found.left,
    )


def _failed(one: FailedStep) -> FailedStepRead:
    return FailedStepRead(path=one.path, attempts=one.attempts, code=one.error.code, message=one.error.message)


def _awaited(one: Awaited) -> AwaitedRead:
    return AwaitedRead(kind=one.kind, path=one.path, what=one.what, until=one.until)
