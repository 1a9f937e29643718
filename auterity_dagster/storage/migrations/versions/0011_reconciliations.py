"""Keep a record of each comparison of the ledger with a provider's bill."""

from alembic import op

from auterity_dagster.storage.migrations.row_security import protect

revision = "0011"
down_revision: str | None = "0010"


def upgrade() -> None:
    """`report` lists the first differences; how many there are stands beside it."""
    op.execute("""
        CREATE TABLE reconciliation (
            organization_id uuid NOT NULL, id uuid NOT NULL, provider text NOT NULL, since date NOT NULL,
            until date NOT NULL, bill_digest text NOT NULL, lines bigint NOT NULL, matched_lines bigint NOT NULL,
            billed_nusd bigint NOT NULL, corrections bigint NOT NULL, adjusted_nusd bigint NOT NULL,
            differences bigint NOT NULL, report jsonb NOT NULL, created_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (organization_id, id))""")
    protect("reconciliation", grants="SELECT, INSERT")


def downgrade() -> None:
    """The adjustments stay in the ledger."""
    op.execute("DROP TABLE reconciliation")
