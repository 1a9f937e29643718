"""Create the table of waits; let a step's result say until when it waits and what a `for_each` goes over."""

from alembic import op

from auterity_dagster.storage.migrations.row_security import protect

revision = "0014"
down_revision: str | None = "0013"

WAIT = """
    organization_id uuid NOT NULL, id uuid NOT NULL, dealership_id uuid NOT NULL, execution_id uuid NOT NULL,
    path text NOT NULL, event_type text, match_key text NOT NULL, match jsonb NOT NULL,
    state text NOT NULL CHECK (state IN ('open', 'elapsed', 'event', 'cancelled')), expires_at timestamptz NOT NULL,
    event jsonb, created_at timestamptz NOT NULL, closed_at timestamptz,
    PRIMARY KEY (organization_id, id), UNIQUE (organization_id, execution_id, path),
    FOREIGN KEY (organization_id, execution_id) REFERENCES execution (organization_id, id)"""


def upgrade() -> None:
    """A step that waits for an approval keeps the end that the approval has."""
    op.execute(f"CREATE TABLE wait ({WAIT})")
    protect("wait", grants="SELECT, INSERT, UPDATE")
    op.execute("CREATE INDEX ix_wait_open ON wait (organization_id, event_type, match_key) WHERE state = 'open'")
    op.execute("ALTER TABLE step_result ADD COLUMN expires_at timestamptz, ADD COLUMN items jsonb")
    op.execute("ALTER TABLE execution ADD COLUMN depth bigint NOT NULL DEFAULT 0")
    op.execute(
        "UPDATE step_result s SET expires_at = a.expires_at FROM approval a WHERE s.state = 'waiting' "
        "AND a.organization_id = s.organization_id AND a.execution_id = s.execution_id AND a.path = s.path"
    )


def downgrade() -> None:
    """Executions that wait for an event wait for ever."""
    op.execute("ALTER TABLE execution DROP COLUMN depth")
    op.execute("ALTER TABLE step_result DROP COLUMN expires_at, DROP COLUMN items")
    op.execute("DROP TABLE wait")
