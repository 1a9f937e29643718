"""Let an organization's people switch a deployment off, or give it a smaller share."""

from alembic import op

from auterity_dagster.storage.migrations.row_security import protect

revision = "0020"
down_revision: str | None = "0019"


def upgrade() -> None:
    """Create the table; a change wakes every gateway."""
    op.execute(
        """
        CREATE TABLE deployment_override (
            organization_id uuid NOT NULL REFERENCES organization (id), deployment_id text NOT NULL,
            is_off boolean NOT NULL, weight_percent bigint CHECK (weight_percent BETWEEN 0 AND 100),
            note text NOT NULL, version bigint NOT NULL,
            changed_by uuid NOT NULL, changed_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (organization_id, deployment_id))"""
    )
    protect("deployment_override", grants="SELECT, INSERT, UPDATE")
    op.execute(
        "CREATE TRIGGER notify_steering AFTER INSERT OR UPDATE ON deployment_override "
        "FOR EACH ROW EXECUTE FUNCTION notify_steering()"
    )


def downgrade() -> None:
    """What was set is forgotten: every deployment has the share that policy and registry give it."""
    op.execute("DROP TABLE deployment_override")
