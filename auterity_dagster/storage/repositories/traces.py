"""What workflows asked models and what people let go out, read from the journal of executions that ended well."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from auterity_dagster.neuroweaver.traces import Trace
from auterity_dagster.storage.tables.workflows import ApprovalRow, ExecutionRow, StepResultRow

PAGE = 500


def traces(session: Session, *, dealership_id: UUID | None, since: datetime | None = None) -> Iterator[Trace]:
    """Yield the answered prompts of one dealership (None: of all), oldest execution first, from a time on.

    A reply that a person rejected, or that expired unread, is no example of anything.
    """
    query = (
        select(ExecutionRow, StepResultRow)
        .join(
            StepResultRow,
            (StepResultRow.organization_id == ExecutionRow.organization_id)
            & (StepResultRow.execution_id == ExecutionRow.id),
        )
        .where(ExecutionRow.state == "succeeded", StepResultRow.kind == "ai_prompt", StepResultRow.state == "succeeded")
        .order_by(ExecutionRow.created_at, ExecutionRow.id, StepResultRow.path)
        .execution_options(yield_per=PAGE)
    )
    if dealership_id is not None:
        query = query.where(ExecutionRow.dealership_id == dealership_id)
    if since is not None:
        query = query.where(ExecutionRow.created_at > since)
    for execution, step in session.execute(query):
        output = step.output or {}
        prompt: Mapping[str, Any] = output.get("prompt") or {}
        if "values" not in prompt:
            continue
        decided, approved = _decision(session, execution.id, output["reply"])
        if decided and approved is None:
            continue
        data: Mapping[str, Any] = execution.event.get("data") or {}
        yield Trace(
            execution_id=execution.id,
            dealership_id=execution.dealership_id,
            subject=execution.subject,
            customer=str(data.get("contact_id") or execution.subject),
            customer_name=data.get("customer_name"),
            prompt_key=prompt["key"],
            values=prompt["values"],
            reply=output["reply"],
            approved=approved,
            created_at=execution.created_at,
        )


def _decision(session: Session, execution_id: UUID, reply: str) -> tuple[bool, str | None]:
    """Return whether people were asked about a reply, and the text that they let go out, if they did."""
    rows = session.scalars(select(ApprovalRow).where(ApprovalRow.execution_id == execution_id)).all()
    for row in rows:
        fields: Mapping[str, Any] = row.form.get("fields") or {}
        for name, text in fields.items():
            if text == reply:
                final = (row.final or {}).get(name, reply)
                return True, str(final) if row.state == "approved" else None
    return False, None
