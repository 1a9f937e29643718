"""Keep what one person wants a budget's cap to be until another one agrees."""

from alembic import op

from auterity_dagster.storage.migrations.row_security import protect

revision = "0023"
down_revision: str | None = "0022"


def upgrade() -> None:
    """One waits a budget; `version` is the budget's that its maker read. Who proposed never decides for it."""
    op.execute("""
        CREATE TABLE budget_proposal (
            organization_id uuid NOT NULL, id uuid NOT NULL, budget_id uuid NOT NULL, version bigint NOT NULL,
            cap_nusd bigint NOT NULL CHECK (cap_nusd >= 0), alert_percents smallint[] NOT NULL,
            state text NOT NULL CHECK (state IN ('waiting', 'approved', 'rejected', 'expired')),
            proposed_by uuid NOT NULL, proposed_at timestamptz NOT NULL DEFAULT now(), expires_at timestamptz NOT NULL,
            decided_by uuid, decided_at timestamptz,
            CHECK (state <> 'approved' OR decided_by <> proposed_by),
            CHECK ((state = 'waiting') = (decided_at IS NULL)),
            PRIMARY KEY (organization_id, id),
            FOREIGN KEY (organization_id, budget_id) REFERENCES budget (organization_id, id))""")
    op.execute(
        "CREATE UNIQUE INDEX uq_budget_proposal_waiting ON budget_proposal (organization_id, budget_id) "
        "WHERE state = 'waiting'"
    )
    protect("budget_proposal", grants="SELECT, INSERT, UPDATE")


def downgrade() -> None:
    """What waits is forgotten; what was approved stands in the budgets."""
    op.execute("DROP TABLE budget_proposal")
