"""Create the table of drafts; a workflow that was never published is one."""

from alembic import op

from auterity_dagster.storage.migrations.row_security import protect

revision = "0017"
down_revision: str | None = "0016"

DRAFT = """
    organization_id uuid NOT NULL, workflow_id uuid NOT NULL, revision bigint NOT NULL, definition jsonb NOT NULL,
    note text NOT NULL, edited_by uuid NOT NULL, edited_at timestamptz NOT NULL,
    PRIMARY KEY (organization_id, workflow_id),
    FOREIGN KEY (organization_id, workflow_id) REFERENCES workflow (organization_id, id)"""


def upgrade() -> None:
    """A workflow has one draft at most; its revision counts the changes."""
    op.execute(f"CREATE TABLE workflow_draft ({DRAFT})")
    protect("workflow_draft")
    op.execute("ALTER TABLE workflow DROP CONSTRAINT workflow_state_check")
    op.execute("ALTER TABLE workflow ADD CHECK (state IN ('draft', 'active', 'paused', 'archived'))")


def downgrade() -> None:
    """What was never published is put aside."""
    op.execute("UPDATE workflow SET state = 'archived' WHERE state = 'draft'")
    op.execute("ALTER TABLE workflow DROP CONSTRAINT workflow_state_check")
    op.execute("ALTER TABLE workflow ADD CHECK (state IN ('active', 'paused', 'archived'))")
    op.execute("DROP TABLE workflow_draft")
