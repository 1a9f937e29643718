"""Create the tables of routing: served deployments, evidence of quality, answered requests."""

from datetime import datetime
from uuid import UUID

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from auterity_dagster.storage.migrations import row_security

revision = "0003"
down_revision: str | None = "0002"


def upgrade() -> None:
    """`request` leads with its day, so that it can become a table partitioned by month without a new key."""
    op.create_table(
        "deployment",
        _organization(),
        sa.Column("id", sa.Text(), primary_key=True),
        sa.Column("alias", sa.Text(), primary_key=True),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("artefact_digest", sa.Text(), nullable=False),
        sa.Column("gate_verdict_digest", sa.Text(), nullable=False),
        sa.Column("price_key", sa.Text(), nullable=False),
        sa.Column(
            "weight_percent",
            sa.BigInteger(),
            sa.CheckConstraint("weight_percent BETWEEN 0 AND 100", name="weight_is_percent"),
            nullable=False,
        ),
        sa.Column("context_tokens", sa.BigInteger(), nullable=False),
        sa.Column("output_tokens", sa.BigInteger(), nullable=False),
        sa.Column("tasks", JSONB(), nullable=False),
        _now("published_at"),
    )
    op.create_table(
        "route_quality",
        _organization(),
        sa.Column("task", sa.Text(), primary_key=True),
        sa.Column("artefact_digest", sa.Text(), primary_key=True),
        sa.Column("source", sa.Text(), primary_key=True),
        sa.Column("items", sa.BigInteger(), sa.CheckConstraint("items > 0", name="has_items"), nullable=False),
        sa.Column(
            "mean_score",
            sa.Double[float](),
            sa.CheckConstraint("mean_score BETWEEN 0 AND 1", name="score_is_a_share"),
            nullable=False,
        ),
        _now("recorded_at"),
    )
    op.create_table(
        "request",
        _organization(),
        sa.Column("day", sa.Date(), primary_key=True),
        sa.Column("id", sa.Uuid(), primary_key=True),
        sa.Column("dealership_id", sa.Uuid()),
        sa.Column("key_id", sa.Uuid(), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("task", sa.Text()),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("is_stream", sa.Boolean(), nullable=False),
        sa.Column("policy_digest", sa.Text(), nullable=False),
        sa.Column("rule", sa.Text()),
        sa.Column("decision", JSONB(), nullable=False),
        sa.Column("deployment_id", sa.Text()),
        sa.Column("attempts", JSONB(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("prompt_tokens", sa.BigInteger()),
        sa.Column("completion_tokens", sa.BigInteger()),
        sa.Column("cost_nusd", sa.BigInteger(), nullable=False),
        sa.Column("latency_ms", sa.BigInteger(), nullable=False),
        _now("received_at"),
    )
    op.create_index("ix_request_received_at", "request", ["organization_id", sa.text("received_at DESC")])
    row_security.protect("deployment")
    row_security.protect("route_quality", grants="SELECT, INSERT, UPDATE")
    row_security.protect("request", grants="SELECT, INSERT")


def downgrade() -> None:
    """Drop the tables."""
    for table in ("request", "route_quality", "deployment"):
        op.drop_table(table)


def _organization() -> sa.Column[UUID]:
    return sa.Column("organization_id", sa.Uuid(), sa.ForeignKey("organization.id"), primary_key=True)


def _now(name: str) -> sa.Column[datetime]:
    return sa.Column(name, sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False)
