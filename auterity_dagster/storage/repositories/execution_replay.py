"""Do an execution again from one of its steps: earlier results are copied, keys stay those of the first execution.

Who asks for `sends_again` gets keys of the new execution's own: what was sent before is sent once more.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID, uuid4

from sqlalchemy import inspect, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from auterity_dagster.automatrix.compiled_workflow import CompiledWorkflow
from auterity_dagster.automatrix.event import Event
from auterity_dagster.automatrix.execution import FINAL
from auterity_dagster.automatrix.expression import ExpressionEngine
from auterity_dagster.automatrix.ports import Claim
from auterity_dagster.automatrix.publication import compile_document
from auterity_dagster.automatrix.replay import ReplayPlan, plan_replay
from auterity_dagster.automatrix.trigger import concurrency_key, resolved_variables
from auterity_dagster.errors import Conflict, NotFound
from auterity_dagster.identity.principal import Principal
from auterity_dagster.storage.repositories import audit, journal_state
from auterity_dagster.storage.repositories.admission import Entering, enter
from auterity_dagster.storage.repositories.outbox import EXECUTIONS, announcement
from auterity_dagster.storage.repositories.room import require_room
from auterity_dagster.storage.repositories.slots import NEVER
from auterity_dagster.storage.tables.workflows import ExecutionRow, StepResultRow, WorkflowRow, WorkflowVersionRow


@dataclass(frozen=True, slots=True)
class ReplayWish:
    """From which step (None: the first that is not done), in which version, with which fields of the data changed."""

    start: str | None
    version: Literal["same", "newest"]
    data: Mapping[str, Any]
    key: str
    sends_again: bool = False


@dataclass(frozen=True, slots=True)
class Replayed:
    """The new execution, where it begins, and the paths whose results it took over."""

    execution_id: UUID
    start: str
    kept: tuple[str, ...]


def replay(
    session: Session,
    principal: Principal,
    execution_id: UUID,
    wish: ReplayWish,
    *,
    expressions: ExpressionEngine,
    now: datetime,
) -> Replayed:
    """Start the replay; a repeat with the same `key` gives the same one.

    Raises `NotFound`, `Conflict` for an execution that is not over or a version that differs too early, `Invalid`.
    """
    row = session.scalar(select(ExecutionRow).where(ExecutionRow.id == execution_id))
    if row is None or not principal.may_see(row.dealership_id):
        raise NotFound("there is no such execution")
    if row.state not in FINAL:
        raise Conflict(f"the execution is {row.state}: cancel it first", code="execution_open", state=row.state)
    require_room(session, row.organization_id, wanted=1)
    first = session.scalars(select(WorkflowVersionRow).where(WorkflowVersionRow.id == row.version_id)).one()
    then = first if wish.version == "same" else _newest(session, row)
    compiled = {one.id: compile_document(one.definition, expressions) for one in (first, then)}
    held = (row, Claim(row.organization_id, row.id, row.fence), compiled[first.id])
    (snapshot,) = journal_state.snapshots(session, [held])
    plan = plan_replay(compiled[first.id], compiled[then.id], snapshot.state.steps, start=wish.start)
    replay_id = _insert(session, row, then, compiled[then.id], wish, now)
    if replay_id is None:
        return _earlier(session, row, wish, plan)
    _copy(session, row, replay_id, plan)
    audit.append_blocking(
        session,
        actor=principal,
        action="execution.replayed",
        subject=f"execution/{execution_id}",
        details={
            "replay": str(replay_id), "from": plan.start, "version": then.number, "changed": sorted(wish.data),
            "sends_again": wish.sends_again,
        },
    )  # fmt: skip
    return Replayed(replay_id, plan.start, plan.kept)


def _newest(session: Session, row: ExecutionRow) -> WorkflowVersionRow:
    return session.scalars(
        select(WorkflowVersionRow)
        .join(WorkflowRow, WorkflowRow.active_version_id == WorkflowVersionRow.id)
        .where(WorkflowRow.id == row.workflow_id)
    ).one()


def _insert(
    session: Session,
    row: ExecutionRow,
    version: WorkflowVersionRow,
    workflow: CompiledWorkflow,
    wish: ReplayWish,
    now: datetime,
) -> UUID | None:
    definition = workflow.definition
    declared = {one.name for one in definition.variables}
    variables = resolved_variables(definition, {key: row.variables[key] for key in row.variables if key in declared})
    event = {**row.event, "data": {**row.event["data"], **wish.data}}
    slot_key = concurrency_key(workflow, event, variables)
    deadline_at = now + definition.timeout
    replay_id = session.scalar(
        insert(ExecutionRow)
        .values(
            organization_id=row.organization_id,
            id=uuid4(),
            dealership_id=row.dealership_id,
            workflow_id=row.workflow_id,
            version_id=version.id,
            job=version.job,
            lane="interactive",
            subject=row.subject,
            idempotency_key=_key(row, wish),
            state="queued",
            ready_at=now if slot_key is None else NEVER,
            blocked_on=slot_key,
            fence=0,
            event=event,
            variables=dict(variables),
            is_cancel_requested=False,
            received_at=now,
            deadline_at=deadline_at,
            created_at=now,
            depth=row.depth,
            is_awaited=False,
            replay_of=row.id,
            root_id=None if wish.sends_again else row.root_id or row.id,
        )
        .on_conflict_do_nothing()
        .returning(ExecutionRow.id)
    )
    if replay_id is None:
        return None
    if definition.concurrency is not None and slot_key is not None:
        # A person asked for it: it waits for its turn, whatever the workflow does with events.
        policy = definition.concurrency.model_copy(update={"on_conflict": "queue"})
        entering = Entering(row.organization_id, replay_id, slot_key, deadline_at)
        enter(session, entering, policy, _event(row, event, now), now)
    payload = {
        "execution_id": str(replay_id), "dealership_id": str(row.dealership_id), "workflow": definition.key,
        "subject": row.subject, "state": "queued",
    }  # fmt: skip
    session.execute(
        announcement(row.organization_id, topic=EXECUTIONS, kind="execution.queued", payload=payload, now=now)
    )
    return replay_id


def _key(row: ExecutionRow, wish: ReplayWish) -> str:
    return f"replay:{row.id}:{wish.key}"


def _event(row: ExecutionRow, event: Mapping[str, Any], now: datetime) -> Event:
    return Event(
        id=UUID(event["id"]),
        type=event["type"],
        organization_id=row.organization_id,
        dealership_id=row.dealership_id,
        subject=row.subject,
        time=now,
        dedupe_key=row.idempotency_key,
        data=event["data"],
        depth=row.depth,
    )


def _earlier(session: Session, row: ExecutionRow, wish: ReplayWish, plan: ReplayPlan) -> Replayed:
    found = session.scalars(
        select(ExecutionRow.id).where(
            ExecutionRow.workflow_id == row.workflow_id, ExecutionRow.idempotency_key == _key(row, wish)
        )
    ).one()
    return Replayed(found, plan.start, plan.kept)


def _copy(session: Session, row: ExecutionRow, replay_id: UUID, plan: ReplayPlan) -> None:
    names = [column.key for column in inspect(StepResultRow).column_attrs]
    own = (StepResultRow.organization_id == row.organization_id, StepResultRow.execution_id == row.id)
    results = session.scalars(select(StepResultRow).where(*own, StepResultRow.path.in_(plan.kept))).all()
    copies = [{name: getattr(one, name) for name in names} | {"execution_id": replay_id} for one in results]
    if copies:
        session.execute(insert(StepResultRow), copies)
