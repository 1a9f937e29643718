"""Install and publish workflows: a version is written once, active at once, and the same content is published once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from auterity_dagster.automatrix.compiled_workflow import CompiledWorkflow
from auterity_dagster.automatrix.expression import ExpressionEngine
from auterity_dagster.automatrix.publication import compile_document
from auterity_dagster.automatrix.schedule import next_fire_at
from auterity_dagster.automatrix.trigger import resolved_variables
from auterity_dagster.automatrix.workflow import CalledTrigger, EventTrigger
from auterity_dagster.errors import Conflict, NotFound
from auterity_dagster.storage.tables.identity import DealershipRow
from auterity_dagster.storage.tables.workflows import WorkflowRow, WorkflowTriggerRow, WorkflowVersionRow


@dataclass(frozen=True, slots=True)
class Published:
    """A version as it is in force now."""

    workflow_id: UUID
    version_id: UUID
    key: str
    number: int
    digest: str
    job: str


@dataclass(frozen=True, slots=True)
class Publication:
    """What is to be published, by whom and why; `job` runs its executions."""

    compiled: CompiledWorkflow
    job: str
    template_key: str | None
    note: str
    by: UUID | None


async def install(
    session: AsyncSession,
    organization_id: UUID,
    publication: Publication,
    *,
    settings: Mapping[str, Any],
    now: datetime,
) -> Published:
    """Add a workflow and publish its first version. Raises `Conflict` if the key is taken, `Invalid` for settings."""
    resolved_variables(publication.compiled.definition, settings)
    definition = publication.compiled.definition
    workflow_id = await session.scalar(
        insert(WorkflowRow)
        .values(
            organization_id=organization_id,
            id=uuid4(),
            key=definition.key,
            name=definition.name,
            state="active",
            template_key=publication.template_key,
            variables=dict(settings),
            created_at=now,
        )
        .on_conflict_do_nothing()
        .returning(WorkflowRow.id)
    )
    if workflow_id is None:
        raise Conflict(f"this organization has a workflow {definition.key!r} already", code="workflow_exists")
    return await publish(session, organization_id, publication, now=now)


async def publish(
    session: AsyncSession, organization_id: UUID, publication: Publication, *, now: datetime
) -> Published:
    """Make a version of the definition and put it in force; the same content again gives the version it has.

    Raises `NotFound` without a workflow of that key. Executions keep the version they started with.
    """
    definition = publication.compiled.definition
    workflow = await session.scalar(select(WorkflowRow).where(WorkflowRow.key == definition.key).with_for_update())
    if workflow is None:
        raise NotFound(f"there is no workflow {definition.key!r}; install it first")
    resolved_variables(definition, workflow.variables)
    version = await session.scalar(
        select(WorkflowVersionRow).where(
            WorkflowVersionRow.workflow_id == workflow.id, WorkflowVersionRow.digest == publication.compiled.digest
        )
    )
    if version is None:
        version = await _add_version(session, workflow, publication, now)
    await session.execute(
        update(WorkflowRow)
        .where(WorkflowRow.organization_id == organization_id, WorkflowRow.id == workflow.id)
        .values(active_version_id=version.id, name=definition.name, state="active")
    )
    await _arm_triggers(session, workflow, version, publication.compiled, now)
    return Published(workflow.id, version.id, workflow.key, version.number, version.digest, version.job)


async def set_state(session: AsyncSession, key: str, state: str) -> None:
    """Pause, resume or archive: events and schedules of one that is not active start nothing.

    Raises `NotFound`, and `Conflict` for one that was never published.
    """
    found = await session.scalar(select(WorkflowRow).where(WorkflowRow.key == key).with_for_update())
    if found is None:
        raise NotFound(f"there is no workflow {key!r}")
    if found.active_version_id is None and state != "archived":
        raise Conflict(f"workflow {key!r} was never published", code="not_published")
    await session.execute(update(WorkflowRow).where(WorkflowRow.key == key).values(state=state))


async def set_variables(
    session: AsyncSession, key: str, settings: Mapping[str, Any], expressions: ExpressionEngine
) -> None:
    """Replace what is set beside the defaults; running executions keep what they started with.

    Raises `NotFound`, and `Invalid` for an unknown variable or a wrong type.
    """
    versions = [version for workflow, version in await list_workflows(session) if workflow.key == key]
    if not versions:
        raise NotFound(f"there is no workflow {key!r}")
    resolved_variables(compile_document(versions[0].definition, expressions).definition, settings)
    await session.execute(update(WorkflowRow).where(WorkflowRow.key == key).values(variables=dict(settings)))


async def list_workflows(session: AsyncSession) -> Sequence[tuple[WorkflowRow, WorkflowVersionRow]]:
    """Return every workflow with its active version, by key."""
    rows = await session.execute(
        select(WorkflowRow, WorkflowVersionRow)
        .join(
            WorkflowVersionRow,
            (WorkflowVersionRow.organization_id == WorkflowRow.organization_id)
            & (WorkflowVersionRow.id == WorkflowRow.active_version_id),
        )
        .order_by(WorkflowRow.key)
    )
    return [(workflow, version) for workflow, version in rows]


async def list_unpublished(session: AsyncSession) -> Sequence[WorkflowRow]:
    """Return the workflows that have no version yet, by key."""
    rows = await session.scalars(
        select(WorkflowRow).where(WorkflowRow.active_version_id.is_(None)).order_by(WorkflowRow.key)
    )
    return rows.all()


async def list_versions(session: AsyncSession, key: str) -> Sequence[WorkflowVersionRow]:
    """Return a workflow's versions, newest first; none if there is no such workflow."""
    rows = await session.scalars(
        select(WorkflowVersionRow)
        .join(
            WorkflowRow,
            (WorkflowVersionRow.organization_id == WorkflowRow.organization_id)
            & (WorkflowVersionRow.workflow_id == WorkflowRow.id),
        )
        .where(WorkflowRow.key == key)
        .order_by(WorkflowVersionRow.number.desc())
    )
    return rows.all()


async def _add_version(
    session: AsyncSession, workflow: WorkflowRow, publication: Publication, now: datetime
) -> WorkflowVersionRow:
    last = await session.scalar(
        select(func.max(WorkflowVersionRow.number)).where(WorkflowVersionRow.workflow_id == workflow.id)
    )
    version = WorkflowVersionRow(
        organization_id=workflow.organization_id,
        id=uuid4(),
        workflow_id=workflow.id,
        number=(last or 0) + 1,
        digest=publication.compiled.digest,
        graph_digest=publication.compiled.definition.graph_digest,
        job=publication.job,
        definition=dict(publication.compiled.document),
        note=publication.note,
        published_by=publication.by,
        published_at=now,
    )
    session.add(version)
    await session.flush()
    return version


async def _arm_triggers(
    session: AsyncSession, workflow: WorkflowRow, version: WorkflowVersionRow, compiled: CompiledWorkflow, now: datetime
) -> None:
    """Replace the triggers by the version's; a schedule has one row for each dealership, in its own time zone."""
    await session.execute(delete(WorkflowTriggerRow).where(WorkflowTriggerRow.workflow_id == workflow.id))
    dealerships = (await session.execute(select(DealershipRow.id, DealershipRow.time_zone))).all()
    for trigger in compiled.definition.triggers:
        own = {
            "organization_id": workflow.organization_id,
            "workflow_id": workflow.id,
            "version_id": version.id,
            "trigger_id": trigger.id,
            "type": trigger.type,
        }
        if isinstance(trigger, EventTrigger):
            session.add(WorkflowTriggerRow(**own, id=uuid4(), event_type=trigger.event))
            continue
        if isinstance(trigger, CalledTrigger):
            continue
        for dealership_id, time_zone in dealerships:
            due = next_fire_at(trigger.cron, after=now, time_zone=time_zone)
            session.add(
                WorkflowTriggerRow(
                    **own, id=uuid4(), dealership_id=dealership_id, time_zone=time_zone, next_fire_at=due
                )
            )
    await session.flush()
