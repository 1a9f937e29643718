"""Create the tables of rate limits: what is allowed, and which gateway processes share it."""

from alembic import op

from auterity_dagster.storage.migrations.row_security import APPLICATION_ROLE, protect

revision = "0010"
down_revision: str | None = "0009"


def upgrade() -> None:
    """`gateway_process` belongs to no organization: it holds random ids and times."""
    op.execute("""
        CREATE TABLE rate_limit (
            organization_id uuid NOT NULL REFERENCES organization (id), scope text NOT NULL, subject_id uuid NOT NULL,
            requests_per_minute bigint, tokens_per_minute bigint, changed_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (organization_id, scope, subject_id),
            CHECK (scope IN ('organization', 'dealership', 'key')),
            CHECK (requests_per_minute BETWEEN 1 AND 1000000000), CHECK (tokens_per_minute BETWEEN 1 AND 1000000000),
            CHECK (num_nonnulls(requests_per_minute, tokens_per_minute) > 0))""")
    protect("rate_limit")
    op.execute("""
        CREATE TABLE gateway_process (
            id uuid PRIMARY KEY, started_at timestamptz NOT NULL DEFAULT now(),
            heartbeat_at timestamptz NOT NULL DEFAULT now())""")
    op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON gateway_process TO {APPLICATION_ROLE}")


def downgrade() -> None:
    """Drop both."""
    op.execute("DROP TABLE gateway_process")
    op.execute("DROP TABLE rate_limit")
