"""Drafts of workflows: what somebody works on, one a workflow, changed only by who has seen the last change."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import delete, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from auterity_dagster.errors import Conflict, NotFound
from auterity_dagster.storage.tables.workflows import WorkflowDraftRow, WorkflowRow


async def add_workflow(
    session: AsyncSession,
    organization_id: UUID,
    *,
    key: str,
    name: str,
    settings: Mapping[str, Any],
    now: datetime,
) -> WorkflowRow:
    """Add a workflow that nobody has published. Raises `Conflict` if the key is taken."""
    row = await session.scalar(
        insert(WorkflowRow)
        .values(
            organization_id=organization_id,
            id=uuid4(),
            key=key,
            name=name,
            state="draft",
            template_key=None,
            variables=dict(settings),
            created_at=now,
        )
        .on_conflict_do_nothing()
        .returning(WorkflowRow)
    )
    if row is None:
        raise Conflict(f"this organization has a workflow {key!r} already", code="workflow_exists")
    return row


async def find(session: AsyncSession, key: str) -> tuple[WorkflowRow, WorkflowDraftRow | None]:
    """Return a workflow with its draft. Raises `NotFound`."""
    workflow = await session.scalar(select(WorkflowRow).where(WorkflowRow.key == key).with_for_update())
    if workflow is None:
        raise NotFound(f"there is no workflow {key!r}")
    draft = await session.scalar(select(WorkflowDraftRow).where(WorkflowDraftRow.workflow_id == workflow.id))
    return workflow, draft


async def require(session: AsyncSession, key: str) -> WorkflowDraftRow:
    """Return a workflow's draft. Raises `NotFound`."""
    _workflow, draft = await find(session, key)
    if draft is None:
        raise NotFound(f"workflow {key!r} has no draft")
    return draft


async def save(
    session: AsyncSession,
    workflow: WorkflowRow,
    draft: WorkflowDraftRow | None,
    *,
    definition: Mapping[str, Any],
    note: str,
    by: UUID,
    seen: int | None,
    now: datetime,
) -> WorkflowDraftRow:
    """Write a draft over the revision that its author has seen, None for the first.

    Raises `Conflict` with the revision that there is. The workflow's row is locked: of two at once one is told.
    """
    there_is = None if draft is None else draft.revision
    if seen != there_is:
        state = "has no draft" if there_is is None else f"is at revision {there_is} of its draft"
        raise Conflict(
            f"workflow {workflow.key!r} {state}: read it again and send that as If-Match",
            code="draft_changed",
            revision=there_is,
        )
    values = {"definition": dict(definition), "note": note, "edited_by": by, "edited_at": now}
    revision = 1 if there_is is None else there_is + 1
    written = await session.scalars(
        insert(WorkflowDraftRow)
        .values(organization_id=workflow.organization_id, workflow_id=workflow.id, revision=revision, **values)
        .on_conflict_do_update(index_elements=["organization_id", "workflow_id"], set_={"revision": revision, **values})
        .returning(WorkflowDraftRow)
        .execution_options(populate_existing=True)
    )
    if workflow.state == "draft" and isinstance(name := definition.get("name"), str):
        own = (WorkflowRow.organization_id == workflow.organization_id, WorkflowRow.id == workflow.id)
        await session.execute(update(WorkflowRow).where(*own).values(name=name[:200]))
    return written.one()


async def discard(session: AsyncSession, draft: WorkflowDraftRow) -> None:
    """Drop a draft: it was published, or nobody wants it."""
    await session.execute(
        delete(WorkflowDraftRow).where(
            WorkflowDraftRow.organization_id == draft.organization_id,
            WorkflowDraftRow.workflow_id == draft.workflow_id,
        )
    )
