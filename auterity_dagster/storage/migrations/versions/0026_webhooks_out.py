"""Create the endpoints of outbound webhooks, their deliveries, and the look-up that finds whose are due."""

from alembic import op

from auterity_dagster.storage.migrations.row_security import LOOKUP_ROLE, grant_lookup, protect

revision = "0026"
down_revision: str | None = "0025"

TABLES = {
    "webhook_endpoint": """
        organization_id uuid NOT NULL, id uuid NOT NULL, url text NOT NULL, topics jsonb NOT NULL,
        state text NOT NULL CHECK (state IN ('on', 'off')), off_reason text, secret_version bigint NOT NULL,
        previous_until timestamptz, cursor bigint NOT NULL, created_at timestamptz NOT NULL,
        changed_at timestamptz NOT NULL,
        PRIMARY KEY (organization_id, id)""",
    "webhook_delivery": """
        organization_id uuid NOT NULL, id uuid NOT NULL, endpoint_id uuid NOT NULL, position bigint NOT NULL,
        subject text NOT NULL, envelope jsonb NOT NULL,
        state text NOT NULL CHECK (state IN ('pending', 'delivered', 'dead')), attempts bigint NOT NULL,
        next_attempt_at timestamptz NOT NULL, last_status bigint, last_error text, created_at timestamptz NOT NULL,
        delivered_at timestamptz,
        PRIMARY KEY (organization_id, id), UNIQUE (organization_id, endpoint_id, position),
        FOREIGN KEY (organization_id, endpoint_id) REFERENCES webhook_endpoint (organization_id, id)
        ON DELETE CASCADE""",
}

INDEXES = (
    "CREATE INDEX ix_webhook_delivery_pending ON webhook_delivery (organization_id, endpoint_id, subject, position) "
    "WHERE state <> 'delivered'",
    "CREATE INDEX ix_webhook_delivery_due ON webhook_delivery (next_attempt_at) WHERE state = 'pending'",
)

DUE = """
CREATE FUNCTION organizations_with_webhooks(p_now timestamptz) RETURNS TABLE (organization_id uuid)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public AS $$
    SELECT e.organization_id FROM webhook_endpoint e JOIN outbox_head h ON h.organization_id = e.organization_id
    WHERE e.state = 'on' AND e.cursor < h.position
    UNION
    SELECT d.organization_id FROM webhook_delivery d JOIN webhook_endpoint e
      ON e.organization_id = d.organization_id AND e.id = d.endpoint_id
    WHERE e.state = 'on' AND d.state = 'pending' AND d.next_attempt_at <= p_now
$$"""


def upgrade() -> None:
    """Create tables, indexes and the look-up."""
    for table, columns in TABLES.items():
        op.execute(f"CREATE TABLE {table} ({columns})")
        protect(table)
    for index in INDEXES:
        op.execute(index)
    op.execute(f"GRANT SELECT (organization_id, id, state, cursor) ON webhook_endpoint TO {LOOKUP_ROLE}")
    op.execute(
        f"GRANT SELECT (organization_id, endpoint_id, state, next_attempt_at) ON webhook_delivery TO {LOOKUP_ROLE}"
    )
    op.execute(f"GRANT SELECT (organization_id, position) ON outbox_head TO {LOOKUP_ROLE}")
    op.execute(DUE)
    grant_lookup("organizations_with_webhooks(timestamptz)")


def downgrade() -> None:
    """Drop everything again."""
    op.execute("DROP FUNCTION organizations_with_webhooks(timestamptz)")
    op.execute(f"REVOKE ALL ON outbox_head FROM {LOOKUP_ROLE}")
    for table in reversed(TABLES):
        op.execute(f"DROP TABLE {table}")
