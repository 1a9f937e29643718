"""Create messages, consents and suppressions, and the look-up that finds a text service's organization."""

from alembic import op

from auterity_dagster.storage.migrations.row_security import LOOKUP_ROLE, grant_lookup, protect

revision = "0025"
down_revision: str | None = "0024"

CONTACT = "FOREIGN KEY (organization_id, contact_id) REFERENCES contact (organization_id, id)"
CHANNEL = "CHECK (channel IN ('sms', 'email'))"

TABLES = {
    "message": f"""
        organization_id uuid NOT NULL, id uuid NOT NULL, dealership_id uuid NOT NULL, contact_id uuid NOT NULL,
        channel text NOT NULL {CHANNEL}, direction text NOT NULL CHECK (direction IN ('in', 'out')), purpose text,
        author text NOT NULL CHECK (author IN ('ai', 'person', 'template', 'customer')), text text NOT NULL,
        state text NOT NULL CHECK (state IN ('received', 'intended', 'sent', 'failed', 'unknown', 'suppressed')),
        reason text, rules jsonb NOT NULL, execution_id uuid, effect_key text, provider_ref text,
        created_at timestamptz NOT NULL,
        PRIMARY KEY (organization_id, id), UNIQUE (organization_id, effect_key), {CONTACT}""",
    "contact_consent": f"""
        organization_id uuid NOT NULL, id uuid NOT NULL, contact_id uuid NOT NULL, channel text NOT NULL {CHANNEL},
        level text NOT NULL CHECK (level IN ('express', 'written')), evidence text NOT NULL,
        granted_at timestamptz NOT NULL, revoked_at timestamptz,
        PRIMARY KEY (organization_id, id), {CONTACT}""",
    "suppression": f"""
        organization_id uuid NOT NULL, id uuid NOT NULL, address_digest bytea NOT NULL, contact_id uuid,
        channel text {CHANNEL}, reason text NOT NULL, evidence text NOT NULL, rules jsonb NOT NULL,
        state text NOT NULL CHECK (state IN ('in_force', 'to_confirm', 'lifted')), created_at timestamptz NOT NULL,
        changed_at timestamptz NOT NULL,
        PRIMARY KEY (organization_id, id), {CONTACT}""",
}

INDEXES = (
    "CREATE INDEX ix_message_contact ON message (organization_id, contact_id, created_at DESC)",
    "CREATE INDEX ix_message_recent ON message (organization_id, created_at DESC, id)",
    "CREATE UNIQUE INDEX uq_message_provider_ref ON message (organization_id, channel, provider_ref) "
    "WHERE direction = 'in'",
    "CREATE INDEX ix_contact_consent_contact ON contact_consent (organization_id, contact_id)",
    "CREATE INDEX ix_suppression_address ON suppression (organization_id, address_digest) WHERE state <> 'lifted'",
    "CREATE INDEX ix_contact_mobile ON contact (organization_id, mobile)",
    "CREATE INDEX ix_lead_contact ON lead (organization_id, contact_id, received_at DESC)",
    "CREATE INDEX ix_service_due_contact ON service_due (organization_id, contact_id)",
)

CONNECTION = """
CREATE FUNCTION find_sms_connection(p_id uuid) RETURNS TABLE (organization_id uuid)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public AS $$
    SELECT c.organization_id FROM connection c WHERE c.id = p_id AND c.kind = 'sms'
$$"""

GRANTS = {
    "message": "SELECT, INSERT, UPDATE",
    "contact_consent": "SELECT, INSERT, UPDATE",
    "suppression": "SELECT, INSERT, UPDATE",
}


def upgrade() -> None:
    """Create tables, indexes and the look-up."""
    for table, columns in TABLES.items():
        op.execute(f"CREATE TABLE {table} ({columns})")
        protect(table, grants=GRANTS[table])
    for index in INDEXES:
        op.execute(index)
    op.execute(f"GRANT SELECT (organization_id, id, kind) ON connection TO {LOOKUP_ROLE}")
    op.execute(CONNECTION)
    grant_lookup("find_sms_connection(uuid)")


def downgrade() -> None:
    """Drop everything again."""
    op.execute("DROP FUNCTION find_sms_connection(uuid)")
    op.execute(f"REVOKE ALL ON connection FROM {LOOKUP_ROLE}")
    for index in ("ix_contact_mobile", "ix_lead_contact", "ix_service_due_contact"):
        op.execute(f"DROP INDEX {index}")
    for table in reversed(TABLES):
        op.execute(f"DROP TABLE {table}")
