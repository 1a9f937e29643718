"""Create the tables of specialisation: training stages, gate verdicts, serving state and its ledger."""

from datetime import datetime
from uuid import UUID

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from auterity_dagster.storage.migrations import row_security

revision = "0006"
down_revision: str | None = "0005"


def upgrade() -> None:
    """Verdicts and ledger rows are added and never changed: the application role may not update them."""
    op.create_table(
        "training_stage",
        _organization(),
        sa.Column("stage_key", sa.Text(), primary_key=True),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column(
            "state",
            sa.Text(),
            sa.CheckConstraint("state IN ('running', 'finished', 'failed', 'paused')", name="state_is_known"),
            nullable=False,
        ),
        sa.Column("artefact_digest", sa.Text()),
        sa.Column("mlflow_run_id", sa.Text()),
        sa.Column("metrics", JSONB(), nullable=False),
        sa.Column("attempts", sa.BigInteger(), nullable=False),
        sa.Column("cost_nusd", sa.BigInteger(), nullable=False),
        _now("started_at"),
        sa.Column("finished_at", sa.DateTime(timezone=True)),
        sa.CheckConstraint("state <> 'finished' OR artefact_digest IS NOT NULL", name="finished_has_artefact"),
    )
    op.create_table(
        "gate_verdict",
        _organization(),
        sa.Column("verdict_digest", sa.Text(), primary_key=True),
        sa.Column("artefact_digest", sa.Text(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column(
            "outcome",
            sa.Text(),
            sa.CheckConstraint("outcome IN ('PASS', 'FAIL', 'INCONCLUSIVE')", name="outcome_is_known"),
            nullable=False,
        ),
        sa.Column("profile", sa.Text(), nullable=False),
        sa.Column("champion_digest", sa.Text(), nullable=False),
        sa.Column("report_digest", sa.Text(), nullable=False),
        sa.Column("reasons", JSONB(), nullable=False),
        _now("decided_at"),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index("ix_gate_verdict_artefact_digest", "gate_verdict", ["organization_id", "artefact_digest"])
    op.create_table(
        "serving_state",
        _organization(),
        sa.Column("scope", sa.Text(), primary_key=True),
        sa.Column("current_digest", sa.Text(), nullable=False),
        sa.Column("previous_digest", sa.Text()),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("pinned_by", sa.Text()),
    )
    op.create_table(
        "switch_ledger",
        _organization(),
        sa.Column("scope", sa.Text(), primary_key=True),
        sa.Column("sequence", sa.BigInteger(), primary_key=True),
        sa.Column("from_digest", sa.Text()),
        sa.Column("to_digest", sa.Text(), nullable=False),
        sa.Column(
            "weight_percent",
            sa.BigInteger(),
            sa.CheckConstraint("weight_percent BETWEEN 0 AND 100", name="weight_is_percent"),
            nullable=False,
        ),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("evidence_ids", JSONB(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("idempotency_key", sa.Text(), nullable=False),
        _now("recorded_at"),
        sa.UniqueConstraint("organization_id", "idempotency_key"),
    )
    row_security.protect("training_stage", grants="SELECT, INSERT, UPDATE")
    row_security.protect("gate_verdict", grants="SELECT, INSERT")
    row_security.protect("serving_state", grants="SELECT, INSERT, UPDATE")
    row_security.protect("switch_ledger", grants="SELECT, INSERT")


def downgrade() -> None:
    """Drop the tables, ledger first."""
    for table in ("switch_ledger", "serving_state", "gate_verdict", "training_stage"):
        op.drop_table(table)


def _organization() -> sa.Column[UUID]:
    return sa.Column("organization_id", sa.Uuid(), sa.ForeignKey("organization.id"), primary_key=True)


def _now(name: str) -> sa.Column[datetime]:
    return sa.Column(name, sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False)
