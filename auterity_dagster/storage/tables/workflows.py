"""Tables of AutoMatrix: workflows and their versions, executions with their journal, and what left the house."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Mapped, mapped_column

from auterity_dagster.storage.tables.base import Base


class WorkflowRow(Base):
    """A workflow an organization installed; `variables` overlay the defaults of its definition."""

    __tablename__ = "workflow"

    organization_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    key: Mapped[str]
    name: Mapped[str]
    state: Mapped[str]
    template_key: Mapped[str | None]
    variables: Mapped[dict[str, Any]]
    active_version_id: Mapped[UUID | None]
    created_at: Mapped[datetime]


class WorkflowDraftRow(Base):
    """What somebody works on; `revision` counts the changes."""

    __tablename__ = "workflow_draft"

    organization_id: Mapped[UUID] = mapped_column(primary_key=True)
    workflow_id: Mapped[UUID] = mapped_column(primary_key=True)
    revision: Mapped[int]
    definition: Mapped[dict[str, Any]]
    note: Mapped[str]
    edited_by: Mapped[UUID]
    edited_at: Mapped[datetime]


class WorkflowVersionRow(Base):
    """A published definition, immutable: the application role may not update this table."""

    __tablename__ = "workflow_version"

    organization_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    workflow_id: Mapped[UUID]
    number: Mapped[int]
    digest: Mapped[str]
    graph_digest: Mapped[str]
    job: Mapped[str]
    definition: Mapped[dict[str, Any]]
    note: Mapped[str]
    published_by: Mapped[UUID | None]
    published_at: Mapped[datetime]


class WorkflowTriggerRow(Base):
    """One trigger of an active version; `next_fire_at` belongs to schedules."""

    __tablename__ = "workflow_trigger"

    organization_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    workflow_id: Mapped[UUID]
    version_id: Mapped[UUID]
    trigger_id: Mapped[str]
    type: Mapped[str]
    event_type: Mapped[str | None]
    dealership_id: Mapped[UUID | None]
    time_zone: Mapped[str | None]
    next_fire_at: Mapped[datetime | None]


class TriggerFireRow(Base):
    """One firing of a schedule: its key makes it fire once."""

    __tablename__ = "trigger_fire"

    organization_id: Mapped[UUID] = mapped_column(primary_key=True)
    trigger_id: Mapped[UUID] = mapped_column(primary_key=True)
    scheduled_at: Mapped[datetime] = mapped_column(primary_key=True)
    fired_at: Mapped[datetime]


class ServiceDueRow(Base):
    """A customer's vehicle with a service due: the rows of the audience `vehicles_due_for_service`."""

    __tablename__ = "service_due"

    organization_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    dealership_id: Mapped[UUID]
    external_key: Mapped[str]
    contact_id: Mapped[UUID]
    customer_name: Mapped[str]
    channel: Mapped[str]
    vehicle: Mapped[str]
    service: Mapped[str]
    times: Mapped[list[Any]]
    due_at: Mapped[datetime]


class CustomerVehicleRow(Base):
    """A vehicle that a customer owns: the rows of the audience `vehicles_with_open_recalls`.

    The keys are make and model as recalls are compared by.
    """

    __tablename__ = "customer_vehicle"

    organization_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    dealership_id: Mapped[UUID]
    external_key: Mapped[str]
    contact_id: Mapped[UUID]
    customer_name: Mapped[str]
    channel: Mapped[str]
    vin: Mapped[str | None]
    make: Mapped[str]
    vehicle_model: Mapped[str]
    make_key: Mapped[str]
    vehicle_model_key: Mapped[str]
    year: Mapped[int]
    changed_at: Mapped[datetime]


class ExecutionRow(Base):
    """One run of a workflow version for one subject; `ready_at` is the only scheduling column."""

    __tablename__ = "execution"

    organization_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    dealership_id: Mapped[UUID]
    workflow_id: Mapped[UUID]
    version_id: Mapped[UUID]
    job: Mapped[str]
    lane: Mapped[str]
    subject: Mapped[str]
    idempotency_key: Mapped[str]
    state: Mapped[str]
    ready_at: Mapped[datetime]
    fence: Mapped[int]
    run_id: Mapped[str | None]
    event: Mapped[dict[str, Any]]
    variables: Mapped[dict[str, Any]]
    error: Mapped[dict[str, Any] | None]
    is_cancel_requested: Mapped[bool]
    received_at: Mapped[datetime]
    deadline_at: Mapped[datetime]
    created_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    depth: Mapped[int]
    parent_id: Mapped[UUID | None]
    parent_path: Mapped[str | None]
    is_awaited: Mapped[bool]
    outputs: Mapped[dict[str, Any] | None]
    blocked_on: Mapped[str | None]
    replay_of: Mapped[UUID | None]
    root_id: Mapped[UUID | None]


class StepResultRow(Base):
    """One attempt at one step: the journal. `starts` counts how often a worker began this same attempt.

    `expires_at` belongs to one that waits, `items` to a `for_each`.
    """

    __tablename__ = "step_result"

    organization_id: Mapped[UUID] = mapped_column(primary_key=True)
    execution_id: Mapped[UUID] = mapped_column(primary_key=True)
    path: Mapped[str] = mapped_column(primary_key=True)
    attempt: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    state: Mapped[str]
    starts: Mapped[int]
    fence: Mapped[int]
    input_digest: Mapped[str | None]
    output: Mapped[dict[str, Any] | None]
    error: Mapped[dict[str, Any] | None]
    deployment: Mapped[str | None]
    prompt_tokens: Mapped[int | None]
    completion_tokens: Mapped[int | None]
    cost_nusd: Mapped[int | None]
    retry_at: Mapped[datetime | None]
    expires_at: Mapped[datetime | None]
    items: Mapped[list[Any] | None]
    started_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]


class ApprovalRow(Base):
    """A person's decision that a step waits for; the wait and its answer are one row."""

    __tablename__ = "approval"

    organization_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    dealership_id: Mapped[UUID]
    execution_id: Mapped[UUID]
    path: Mapped[str]
    role: Mapped[str]
    title: Mapped[str]
    form: Mapped[dict[str, Any]]
    state: Mapped[str]
    final: Mapped[dict[str, Any] | None]
    decided_by: Mapped[UUID | None]
    decided_by_name: Mapped[str | None]
    decided_at: Mapped[datetime | None]
    expires_at: Mapped[datetime]
    created_at: Mapped[datetime]


class WaitRow(Base):
    """What a parked step waits for beside a person: a time, or an event before it; the row's state says which came."""

    __tablename__ = "wait"

    organization_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    dealership_id: Mapped[UUID]
    execution_id: Mapped[UUID]
    path: Mapped[str]
    event_type: Mapped[str | None]
    match_key: Mapped[str]
    match: Mapped[dict[str, Any]]
    state: Mapped[str]
    expires_at: Mapped[datetime]
    event: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime]
    closed_at: Mapped[datetime | None]


class ConcurrencySlotRow(Base):
    """One of the places that executions with the same key share: it is its holder's."""

    __tablename__ = "concurrency_slot"

    organization_id: Mapped[UUID] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    slot: Mapped[int] = mapped_column(primary_key=True)
    execution_id: Mapped[UUID]
    taken_at: Mapped[datetime]


class SideEffectRow(Base):
    """The ledger of what left the house: `intended` is committed before the call, the outcome after it."""

    __tablename__ = "side_effect"

    organization_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    key: Mapped[str]
    execution_id: Mapped[UUID]
    path: Mapped[str]
    kind: Mapped[str]
    state: Mapped[str]
    request: Mapped[dict[str, Any]]
    provider_ref: Mapped[str | None]
    error: Mapped[dict[str, Any] | None]
    intended_at: Mapped[datetime]
    resolved_at: Mapped[datetime | None]


class TaskRow(Base):
    """Something a person has to do, recorded by a step."""

    __tablename__ = "task"

    organization_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    dealership_id: Mapped[UUID]
    execution_id: Mapped[UUID]
    path: Mapped[str]
    role: Mapped[str]
    title: Mapped[str]
    state: Mapped[str]
    due_at: Mapped[datetime]
    created_at: Mapped[datetime]


class OutboxRow(Base):
    """Something to publish, written in the transaction it tells of; the relay gives it its position."""

    __tablename__ = "outbox"

    organization_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    topic: Mapped[str]
    type: Mapped[str]
    payload: Mapped[dict[str, Any]]
    position: Mapped[int | None]
    created_at: Mapped[datetime]
