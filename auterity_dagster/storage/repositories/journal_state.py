"""From rows to the state machine's state."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from auterity_dagster.automatrix.compiled_workflow import CompiledWorkflow
from auterity_dagster.automatrix.execution import OVER, ExecutionState, Status, StepError, StepState, StepStatus
from auterity_dagster.automatrix.ports import Arrival, Claim, Decision, Snapshot
from auterity_dagster.automatrix.step_path import read_path
from auterity_dagster.automatrix.transition import closed, expanded
from auterity_dagster.storage.tables.identity import DealershipRow
from auterity_dagster.storage.tables.workflows import ApprovalRow, ExecutionRow, StepResultRow, WaitRow

DECIDED = ("approved", "rejected", "expired")


@dataclass(frozen=True, slots=True)
class _Place:
    name: str
    time_zone: str


Held = tuple[ExecutionRow, Claim, CompiledWorkflow]


def snapshots(session: Session, held: Sequence[Held]) -> list[Snapshot]:
    """Return one organization's executions with their steps and approvals: four queries for all of them."""
    ids = [row.id for row, _claim, _workflow in held]
    steps: dict[UUID, list[StepResultRow]] = defaultdict(list)
    for step in session.scalars(
        select(StepResultRow).where(StepResultRow.execution_id.in_(ids)).order_by(StepResultRow.attempt)
    ):
        steps[step.execution_id].append(step)
    approvals: dict[UUID, list[ApprovalRow]] = defaultdict(list)
    for approval in session.scalars(select(ApprovalRow).where(ApprovalRow.execution_id.in_(ids))):
        approvals[approval.execution_id].append(approval)
    arrived: dict[UUID, list[WaitRow]] = defaultdict(list)
    for wait in session.scalars(select(WaitRow).where(WaitRow.execution_id.in_(ids), WaitRow.state == "event")):
        arrived[wait.execution_id].append(wait)
    dealerships = {row.dealership_id for row, _claim, _workflow in held}
    places = {
        place.id: _Place(place.name, place.time_zone)
        for place in session.execute(
            select(DealershipRow.id, DealershipRow.name, DealershipRow.time_zone).where(
                DealershipRow.id.in_(dealerships)
            )
        )
    }
    return [
        Snapshot(
            claim=claim,
            dealership_id=row.dealership_id,
            time_zone=places[row.dealership_id].time_zone,
            subject=row.subject,
            workflow=workflow,
            state=_state(row, workflow, steps[row.id], _answered(approvals[row.id], arrived[row.id])),
            scope=_scope(row, places[row.dealership_id]),
            decisions={one.path: _decision(one) for one in approvals[row.id] if one.state in DECIDED},
            arrivals={one.path: Arrival(one.event or {}) for one in arrived[row.id]},
            depth=row.depth,
            parent_id=row.parent_id if row.is_awaited else None,
            root_id=row.root_id or row.id,
        )
        for row, claim, workflow in held
    ]


def _answered(approvals: Sequence[ApprovalRow], arrived: Sequence[WaitRow]) -> frozenset[str]:
    decided = {one.path for one in approvals if one.state in DECIDED}
    return frozenset(decided | {one.path for one in arrived})


def _state(
    row: ExecutionRow, workflow: CompiledWorkflow, results: Sequence[StepResultRow], answered: frozenset[str]
) -> ExecutionState:
    is_failing = row.error is not None
    steps = {path: StepState() for path in workflow.steps}
    if is_failing:
        steps |= {path: StepState() for path in workflow.on_failure}
    for result in results:
        loop = workflow.at(result.path).loop
        if result.items is not None and loop is not None:
            steps |= expanded(result.path, tuple(result.items), tuple(loop.body))
    for result in results:
        steps[result.path] = _step(result, result.path in answered)
    for path, step in tuple(steps.items()):
        if step.items is not None and step.status in OVER:
            steps |= closed({one: found for one, found in steps.items() if read_path(one).loop == path})
    if is_failing:
        steps |= closed({path: step for path, step in steps.items() if path not in workflow.on_failure})
    return ExecutionState(
        status=Status(row.state),
        steps=steps,
        deadline_at=row.deadline_at,
        is_cancel_requested=row.is_cancel_requested,
        error=_error(row.error),
    )


def _step(result: StepResultRow, is_answered: bool) -> StepState:
    status = StepStatus(result.state)
    if status is StepStatus.FAILED and result.retry_at is not None:
        status = StepStatus.PENDING
    return StepState(
        status=status,
        attempt=result.attempt,
        starts=result.starts,
        output=result.output or {},
        error=_error(result.error),
        retry_at=result.retry_at,
        expires_at=result.expires_at,
        is_answered=is_answered,
        items=None if result.items is None else tuple(result.items),
    )


def _error(stored: Mapping[str, object] | None) -> StepError | None:
    return None if stored is None else StepError(str(stored["code"]), str(stored["message"]))


def _decision(row: ApprovalRow) -> Decision:
    outcome = cast("Literal['approved', 'rejected', 'expired']", row.state)
    final = {str(key): str(value) for key, value in (row.final or {}).items()}
    return Decision(outcome, final, row.decided_by_name)


def _scope(row: ExecutionRow, place: _Place) -> Mapping[str, object]:
    return {
        "event": row.event,
        "vars": row.variables,
        "execution": {
            "id": str(row.root_id or row.id),
            "subject": row.subject,
            "received_at": row.received_at.isoformat(),
        },
        "organization": {"id": str(row.organization_id)},
        "dealership": {"id": str(row.dealership_id), "name": place.name, "time_zone": place.time_zone},
    }
