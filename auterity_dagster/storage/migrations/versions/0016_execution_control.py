"""Create the slots of concurrency; let an execution wait for one, and know which execution it repeats."""

from alembic import op

from auterity_dagster.storage.migrations.row_security import protect

revision = "0016"
down_revision: str | None = "0015"

SLOT = """
    organization_id uuid NOT NULL, key text NOT NULL, slot bigint NOT NULL, execution_id uuid NOT NULL,
    taken_at timestamptz NOT NULL,
    PRIMARY KEY (organization_id, key, slot), UNIQUE (organization_id, execution_id),
    FOREIGN KEY (organization_id, execution_id) REFERENCES execution (organization_id, id)"""


def upgrade() -> None:
    """A slot is the row of the execution that holds it."""
    op.execute(f"CREATE TABLE concurrency_slot ({SLOT})")
    protect("concurrency_slot")
    op.execute("ALTER TABLE execution ADD COLUMN blocked_on text, ADD COLUMN replay_of uuid, ADD COLUMN root_id uuid")
    op.execute(
        "CREATE INDEX ix_execution_blocked ON execution (organization_id, blocked_on, created_at) "
        "WHERE blocked_on IS NOT NULL"
    )
    op.execute(
        "CREATE INDEX ix_execution_open ON execution (organization_id) WHERE state IN ('queued', 'running', 'waiting')"
    )


def downgrade() -> None:
    """Executions that wait for a slot wait for ever."""
    op.execute("DROP INDEX ix_execution_open")
    op.execute("ALTER TABLE execution DROP COLUMN blocked_on, DROP COLUMN replay_of, DROP COLUMN root_id")
    op.execute("DROP TABLE concurrency_slot")
