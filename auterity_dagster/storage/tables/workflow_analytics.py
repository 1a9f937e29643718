"""Tables of what AutoMatrix adds up of each day, in the dealership's own time zone."""

from datetime import date
from uuid import UUID

from sqlalchemy.orm import Mapped, mapped_column

from auterity_dagster.storage.tables.base import Base


class LeadResponseDayRow(Base):
    """How fast the leads of one day were answered; times are seconds from arrival to the first message that left."""

    __tablename__ = "lead_response_day"

    organization_id: Mapped[UUID] = mapped_column(primary_key=True)
    day: Mapped[date] = mapped_column(primary_key=True)
    dealership_id: Mapped[UUID] = mapped_column(primary_key=True)
    leads: Mapped[int]
    answered: Mapped[int]
    within_5_min: Mapped[int]
    negative: Mapped[int]
    p50_s: Mapped[float | None]
    p90_s: Mapped[float | None]


class WorkflowDayRow(Base):
    """How far the executions that began on one day came, and what their AI calls cost, every attempt counted."""

    __tablename__ = "workflow_day"

    organization_id: Mapped[UUID] = mapped_column(primary_key=True)
    day: Mapped[date] = mapped_column(primary_key=True)
    dealership_id: Mapped[UUID] = mapped_column(primary_key=True)
    workflow_id: Mapped[UUID] = mapped_column(primary_key=True)
    workflow_key: Mapped[str]
    received: Mapped[int]
    drafted: Mapped[int]
    reviewed: Mapped[int]
    approved: Mapped[int]
    sent: Mapped[int]
    succeeded: Mapped[int]
    failed: Mapped[int]
    prompt_tokens: Mapped[int]
    completion_tokens: Mapped[int]
    cost_nusd: Mapped[int]
