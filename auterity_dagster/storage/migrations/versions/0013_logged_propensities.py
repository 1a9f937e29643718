"""Keep with a request how likely its choice was, and what a predictor that only watched would have chosen."""

from alembic import op

from auterity_dagster.storage.migrations.row_security import APPLICATION_ROLE

revision = "0013"
down_revision: str | None = "0012"


def upgrade() -> None:
    """Both are NULL where nothing was drawn and nothing watched. Shared priors are replaced: that takes a DELETE."""
    op.execute(f"GRANT DELETE ON route_quality TO {APPLICATION_ROLE}")
    op.execute(
        "ALTER TABLE request ADD COLUMN propensity double precision CHECK (propensity > 0 AND propensity <= 1), "
        "ADD COLUMN predicted jsonb"
    )


def downgrade() -> None:
    """What was drawn is forgotten."""
    op.execute(f"REVOKE DELETE ON route_quality FROM {APPLICATION_ROLE}")
    op.execute("ALTER TABLE request DROP COLUMN propensity, DROP COLUMN predicted")
