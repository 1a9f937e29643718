"""From rows to the state machine's state."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Literal, cast
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from auterity_dagster.automatrix.execution import ExecutionState, Status, StepError, StepState, StepStatus
from auterity_dagster.automatrix.ports import Claim, Decision, Snapshot
from auterity_dagster.automatrix.publication import CompiledWorkflow
from auterity_dagster.storage.tables.identity import DealershipRow
from auterity_dagster.storage.tables.workflows import ApprovalRow, ExecutionRow, StepResultRow

DECIDED = ("approved", "rejected", "expired")

Held = tuple[ExecutionRow, Claim, CompiledWorkflow]


def snapshots(session: Session, held: Sequence[Held]) -> list[Snapshot]:
    """Return one organization's executions with their steps and approvals: three queries for all of them."""
    ids = [row.id for row, _claim, _workflow in held]
    steps: dict[UUID, list[StepResultRow]] = defaultdict(list)
    for step in session.scalars(
        select(StepResultRow).where(StepResultRow.execution_id.in_(ids)).order_by(StepResultRow.attempt)
    ):
        steps[step.execution_id].append(step)
    approvals: dict[UUID, list[ApprovalRow]] = defaultdict(list)
    for approval in session.scalars(select(ApprovalRow).where(ApprovalRow.execution_id.in_(ids))):
        approvals[approval.execution_id].append(approval)
    dealerships = {row.dealership_id for row, _claim, _workflow in held}
    names = {
        found.id: found.name
        for found in session.execute(
            select(DealershipRow.id, DealershipRow.name).where(DealershipRow.id.in_(dealerships))
        )
    }
    return [
        Snapshot(
            claim=claim,
            dealership_id=row.dealership_id,
            workflow=workflow,
            state=_state(row, workflow, steps[row.id], {one.path: one for one in approvals[row.id]}),
            scope=_scope(row, names[row.dealership_id]),
            decisions={one.path: _decision(one) for one in approvals[row.id] if one.state in DECIDED},
        )
        for row, claim, workflow in held
    ]


def _state(
    row: ExecutionRow,
    workflow: CompiledWorkflow,
    results: Sequence[StepResultRow],
    approvals: Mapping[str, ApprovalRow],
) -> ExecutionState:
    steps = {path: StepState() for path in workflow.steps}
    for result in results:
        steps[result.path] = _step(result, approvals.get(result.path))
    return ExecutionState(
        status=Status(row.state),
        steps=steps,
        deadline_at=row.deadline_at,
        is_cancel_requested=row.is_cancel_requested,
        error=_error(row.error),
    )


def _step(result: StepResultRow, approval: ApprovalRow | None) -> StepState:
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
        expires_at=None if approval is None else approval.expires_at,
        is_answered=approval is not None and approval.state in DECIDED,
    )


def _error(stored: Mapping[str, object] | None) -> StepError | None:
    return None if stored is None else StepError(str(stored["code"]), str(stored["message"]))


def _decision(row: ApprovalRow) -> Decision:
    outcome = cast("Literal['approved', 'rejected', 'expired']", row.state)
    final = {str(key): str(value) for key, value in (row.final or {}).items()}
    return Decision(outcome, final, row.decided_by_name)


def _scope(row: ExecutionRow, dealership: str) -> Mapping[str, object]:
    return {
        "event": row.event,
        "vars": row.variables,
        "execution": {"id": str(row.id), "subject": row.subject, "received_at": row.received_at.isoformat()},
        "organization": {"id": str(row.organization_id)},
        "dealership": {"id": str(row.dealership_id), "name": dealership},
    }
