"""Create contacts, leads, webhook sources, deliveries, the vault, stock, and what the live events need."""

from alembic import op

from auterity_dagster.storage.migrations.row_security import LOOKUP_ROLE, grant_lookup, protect

revision = "0005"
down_revision: str | None = "0004"

DEALERSHIP = "FOREIGN KEY (organization_id, dealership_id) REFERENCES dealership (organization_id, id)"

TABLES = {
    "webhook_source": f"""
        organization_id uuid NOT NULL, id uuid NOT NULL, dealership_id uuid NOT NULL, name text NOT NULL,
        kind text NOT NULL CHECK (kind IN ('adf', 'json')), created_at timestamptz NOT NULL, disabled_at timestamptz,
        PRIMARY KEY (organization_id, id), UNIQUE (id), UNIQUE (organization_id, dealership_id, name), {DEALERSHIP}""",
    "inbound_event": f"""
        organization_id uuid NOT NULL, id uuid NOT NULL, dealership_id uuid NOT NULL, source text NOT NULL,
        source_id uuid, message_id text NOT NULL, kind text NOT NULL CHECK (kind IN ('adf', 'json')),
        body_digest bytea NOT NULL, raw bytea NOT NULL,
        state text NOT NULL CHECK (state IN ('received', 'accepted', 'duplicate', 'quarantined', 'discarded')),
        reason text, line bigint, note text, received_at timestamptz NOT NULL, judged_at timestamptz,
        PRIMARY KEY (organization_id, id), UNIQUE (organization_id, source, message_id), {DEALERSHIP},
        FOREIGN KEY (organization_id, source_id) REFERENCES webhook_source (organization_id, id)""",
    "contact": f"""
        organization_id uuid NOT NULL, id uuid NOT NULL, dealership_id uuid NOT NULL, address_digest bytea NOT NULL,
        name text NOT NULL, is_business boolean NOT NULL, email text, mobile text, emails jsonb NOT NULL,
        phones jsonb NOT NULL, created_at timestamptz NOT NULL,
        PRIMARY KEY (organization_id, id), UNIQUE (organization_id, dealership_id, address_digest), {DEALERSHIP}""",
    "lead": f"""
        organization_id uuid NOT NULL, id uuid NOT NULL, dealership_id uuid NOT NULL, contact_id uuid NOT NULL,
        inbound_event_id uuid NOT NULL, dedupe_key text NOT NULL, provider text, customer_name text NOT NULL,
        channel text CHECK (channel IN ('sms', 'email')), comments text NOT NULL, vehicles jsonb NOT NULL,
        details jsonb NOT NULL, flags jsonb NOT NULL, requested_at timestamptz NOT NULL,
        received_at timestamptz NOT NULL,
        PRIMARY KEY (organization_id, id), UNIQUE (organization_id, dealership_id, dedupe_key), {DEALERSHIP},
        FOREIGN KEY (organization_id, contact_id) REFERENCES contact (organization_id, id),
        FOREIGN KEY (organization_id, inbound_event_id) REFERENCES inbound_event (organization_id, id)""",
    "inbound_prospect": """
        organization_id uuid NOT NULL, inbound_event_id uuid NOT NULL, position bigint NOT NULL,
        state text NOT NULL CHECK (state IN ('accepted', 'duplicate', 'quarantined', 'discarded')), reason text,
        dedupe_key text, lead_id uuid,
        PRIMARY KEY (organization_id, inbound_event_id, position),
        FOREIGN KEY (organization_id, inbound_event_id) REFERENCES inbound_event (organization_id, id),
        FOREIGN KEY (organization_id, lead_id) REFERENCES lead (organization_id, id)""",
    "vault": """
        organization_id uuid NOT NULL, id uuid NOT NULL, lead_id uuid NOT NULL, kind text NOT NULL, field text NOT NULL,
        sealed bytea NOT NULL, created_at timestamptz NOT NULL,
        PRIMARY KEY (organization_id, id),
        FOREIGN KEY (organization_id, lead_id) REFERENCES lead (organization_id, id)""",
    "inventory_vehicle": f"""
        organization_id uuid NOT NULL, dealership_id uuid NOT NULL, stock_number text NOT NULL, vin text,
        condition text CHECK (condition IN ('new', 'used')),
        status text NOT NULL CHECK (status IN ('available', 'on hold', 'sold')), year bigint, make text NOT NULL,
        vehicle_model text NOT NULL, trim text, price_nusd bigint CHECK (price_nusd >= 0), odometer bigint,
        fed_at timestamptz NOT NULL,
        PRIMARY KEY (organization_id, dealership_id, stock_number), {DEALERSHIP}""",
    # Its row's lock makes one relay at a time number an organization's rows; rows that are pruned keep their numbers.
    "outbox_head": """
        organization_id uuid NOT NULL, position bigint NOT NULL, PRIMARY KEY (organization_id)""",
    "live_ticket": """
        organization_id uuid NOT NULL, digest bytea NOT NULL, user_id uuid NOT NULL, origin text,
        expires_at timestamptz NOT NULL, PRIMARY KEY (organization_id, digest),
        FOREIGN KEY (organization_id, user_id) REFERENCES user_account (organization_id, id)""",
}

INDEXES = (
    "CREATE INDEX ix_inbound_event_recent ON inbound_event (organization_id, received_at DESC, id)",
    "CREATE INDEX ix_inbound_event_unjudged ON inbound_event (received_at) WHERE state = 'received'",
    "CREATE INDEX ix_lead_recent ON lead (organization_id, received_at DESC, id)",
    "CREATE INDEX ix_inventory_vehicle_model ON inventory_vehicle "
    "(organization_id, dealership_id, lower(make), lower(vehicle_model))",
)

WEBHOOK_SOURCE = """
CREATE FUNCTION find_webhook_source(p_id uuid) RETURNS TABLE (organization_id uuid)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public AS $$
    SELECT s.organization_id FROM webhook_source s WHERE s.id = p_id AND s.disabled_at IS NULL
$$"""

UNJUDGED = """
CREATE FUNCTION unjudged_inbound_events(p_before timestamptz, p_limit int)
RETURNS TABLE (organization_id uuid, event_id uuid)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public AS $$
    SELECT e.organization_id, e.id FROM inbound_event e
    WHERE e.state = 'received' AND e.received_at < p_before ORDER BY e.received_at LIMIT p_limit
$$"""

UNNUMBERED = """
CREATE FUNCTION organizations_with_unnumbered_outbox() RETURNS TABLE (organization_id uuid)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public AS $$
    SELECT DISTINCT o.organization_id FROM outbox o WHERE o.position IS NULL
$$"""

AGED = """
CREATE FUNCTION organizations_with_aged_outbox(p_before timestamptz) RETURNS TABLE (organization_id uuid)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public AS $$
    SELECT DISTINCT o.organization_id FROM outbox o WHERE o.position IS NOT NULL AND o.created_at < p_before
$$"""

FUNCTIONS = {
    "find_webhook_source(uuid)": WEBHOOK_SOURCE,
    "unjudged_inbound_events(timestamptz, int)": UNJUDGED,
    "organizations_with_unnumbered_outbox()": UNNUMBERED,
    "organizations_with_aged_outbox(timestamptz)": AGED,
}

GRANTS = {
    "inbound_event": "SELECT, INSERT, UPDATE",
    "inbound_prospect": "SELECT, INSERT, UPDATE",
    "webhook_source": "SELECT, INSERT, UPDATE",
    "lead": "SELECT, INSERT",
    "vault": "SELECT, INSERT, DELETE",
    "outbox_head": "SELECT, INSERT, UPDATE",
}


def upgrade() -> None:
    """Create tables, indexes and look-ups."""
    for table, columns in TABLES.items():
        op.execute(f"CREATE TABLE {table} ({columns})")
        protect(table, grants=GRANTS.get(table, "SELECT, INSERT, UPDATE, DELETE"))
    for index in INDEXES:
        op.execute(index)
    op.execute(f"GRANT SELECT (organization_id, id, disabled_at) ON webhook_source TO {LOOKUP_ROLE}")
    op.execute(f"GRANT SELECT (organization_id, id, state, received_at) ON inbound_event TO {LOOKUP_ROLE}")
    op.execute(f"GRANT SELECT (organization_id, position, created_at) ON outbox TO {LOOKUP_ROLE}")
    for signature, body in FUNCTIONS.items():
        op.execute(body)
        grant_lookup(signature)


def downgrade() -> None:
    """Drop everything again."""
    for signature in FUNCTIONS:
        op.execute(f"DROP FUNCTION {signature}")
    op.execute(f"REVOKE ALL ON outbox FROM {LOOKUP_ROLE}")
    for table in reversed(TABLES):
        op.execute(f"DROP TABLE {table}")
