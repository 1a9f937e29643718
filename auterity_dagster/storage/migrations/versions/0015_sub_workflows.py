"""Let an execution know the step that started it, and what it gives back."""

from alembic import op

revision = "0015"
down_revision: str | None = "0014"


def upgrade() -> None:
    """A step starts one execution: the index refuses a second."""
    op.execute(
        "ALTER TABLE execution ADD COLUMN parent_id uuid, ADD COLUMN parent_path text, "
        "ADD COLUMN is_awaited boolean NOT NULL DEFAULT false, ADD COLUMN outputs jsonb, "
        "ADD CHECK ((parent_id IS NULL) = (parent_path IS NULL)), ADD CHECK (parent_id IS NOT NULL OR NOT is_awaited)"
    )
    op.execute(
        "CREATE UNIQUE INDEX ix_execution_parent ON execution (organization_id, parent_id, parent_path) "
        "WHERE parent_id IS NOT NULL"
    )


def downgrade() -> None:
    """Executions forget what started them."""
    op.execute(
        "ALTER TABLE execution DROP COLUMN parent_id, DROP COLUMN parent_path, DROP COLUMN is_awaited, "
        "DROP COLUMN outputs"
    )
