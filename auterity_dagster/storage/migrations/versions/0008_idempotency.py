"""Remember calls by their Idempotency-Key, with the answer they got, for a day."""

from alembic import op

from auterity_dagster.storage.migrations.row_security import protect

revision = "0008"
down_revision: str | None = "0007"


def upgrade() -> None:
    """Keys and requests are kept as digests, answers sealed."""
    op.execute("""
        CREATE TABLE idempotency (
            organization_id uuid NOT NULL, key_digest bytea NOT NULL, id uuid NOT NULL, request_digest bytea NOT NULL,
            request_id uuid NOT NULL, hold_id uuid NOT NULL, answer bytea,
            created_at timestamptz NOT NULL DEFAULT now(), expires_at timestamptz NOT NULL,
            PRIMARY KEY (organization_id, key_digest))""")
    protect("idempotency")
    op.execute("CREATE INDEX ix_idempotency_expires_at ON idempotency (organization_id, expires_at)")


def downgrade() -> None:
    """A repeated call is a new call again."""
    op.execute("DROP TABLE idempotency")
