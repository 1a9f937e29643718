"""Create connections to outside systems, and the table of recalls."""

from alembic import op

from auterity_dagster.storage.migrations.row_security import protect

revision = "0024"
down_revision: str | None = "0023"

TABLES = {
    "connection": """
        organization_id uuid NOT NULL, id uuid NOT NULL, name text NOT NULL,
        kind text NOT NULL CHECK (kind IN ('http', 'crm_http', 'crm_adf', 'smtp', 'sms')), settings jsonb NOT NULL,
        sealed bytea, secret_hint text, is_live boolean NOT NULL DEFAULT false, created_at timestamptz NOT NULL,
        changed_at timestamptz NOT NULL,
        PRIMARY KEY (organization_id, id), UNIQUE (organization_id, name)""",
    "recall": """
        organization_id uuid NOT NULL, id uuid NOT NULL, campaign text NOT NULL, make text NOT NULL,
        vehicle_model text NOT NULL, make_key text NOT NULL, vehicle_model_key text NOT NULL, year bigint NOT NULL,
        vin text, component text NOT NULL, summary text NOT NULL, consequence text NOT NULL, remedy text NOT NULL,
        reported_on date, as_of date NOT NULL,
        PRIMARY KEY (organization_id, id)""",
}

INDEXES = (
    # Messages of a channel leave through one connection.
    "CREATE UNIQUE INDEX uq_connection_live ON connection (organization_id, kind) WHERE is_live",
    "CREATE INDEX ix_recall_model ON recall (organization_id, make_key, vehicle_model_key, year)",
    "CREATE INDEX ix_recall_vin ON recall (organization_id, vin) WHERE vin IS NOT NULL",
)


def upgrade() -> None:
    """Create both, empty."""
    for table, columns in TABLES.items():
        op.execute(f"CREATE TABLE {table} ({columns})")
        protect(table)
    for index in INDEXES:
        op.execute(index)


def downgrade() -> None:
    """Drop both."""
    for table in TABLES:
        op.execute(f"DROP TABLE {table}")
