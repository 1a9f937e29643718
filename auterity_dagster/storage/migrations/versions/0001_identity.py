"""Create organizations, dealerships, users, credentials, the audit log, and the look-ups that find whose they are."""

from alembic import op

from auterity_dagster.storage.migrations.row_security import APPLICATION_ROLE, LOOKUP_ROLE, grant_lookup, protect

revision = "0001"
down_revision: str | None = "0000"

ROLES = "ARRAY['owner', 'admin', 'manager', 'staff', 'developer', 'auditor']"

TABLES = {
    "organization": """
        id uuid PRIMARY KEY, name text NOT NULL, created_at timestamptz NOT NULL DEFAULT now()""",
    "dealership": """
        organization_id uuid NOT NULL REFERENCES organization (id), id uuid NOT NULL, name text NOT NULL,
        time_zone text NOT NULL, street text NOT NULL, city text NOT NULL, region text NOT NULL,
        postal_code text NOT NULL, country text NOT NULL CHECK (country ~ '^[A-Z]{2}$'),
        created_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (organization_id, id), UNIQUE (organization_id, name)""",
    "user_account": """
        organization_id uuid NOT NULL REFERENCES organization (id), id uuid NOT NULL,
        email text NOT NULL UNIQUE CHECK (email = lower(email)), name text NOT NULL, password_hash text NOT NULL,
        session_epoch bigint NOT NULL DEFAULT 0, is_active boolean NOT NULL DEFAULT true,
        created_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (organization_id, id)""",
    "membership": f"""
        organization_id uuid NOT NULL, user_id uuid NOT NULL,
        roles text[] NOT NULL CHECK (cardinality(roles) > 0 AND roles <@ {ROLES}), dealership_ids uuid[],
        PRIMARY KEY (organization_id, user_id),
        FOREIGN KEY (organization_id, user_id) REFERENCES user_account (organization_id, id)""",
    "refresh_token": """
        organization_id uuid NOT NULL, id uuid NOT NULL, user_id uuid NOT NULL, family_id uuid NOT NULL,
        token_digest bytea NOT NULL UNIQUE, session_epoch bigint NOT NULL, issued_at timestamptz NOT NULL DEFAULT now(),
        expires_at timestamptz NOT NULL, family_expires_at timestamptz NOT NULL, used_at timestamptz,
        revoked_at timestamptz,
        PRIMARY KEY (organization_id, id),
        FOREIGN KEY (organization_id, user_id) REFERENCES user_account (organization_id, id)""",
    "api_key": """
        organization_id uuid NOT NULL REFERENCES organization (id), id uuid NOT NULL,
        public_id text NOT NULL UNIQUE, name text NOT NULL, mode text NOT NULL CHECK (mode IN ('live', 'test')),
        digest bytea NOT NULL, scopes text[] NOT NULL, purposes text[] NOT NULL, dealership_ids uuid[],
        is_system boolean NOT NULL DEFAULT false, created_by uuid, expires_at timestamptz, revoked_at timestamptz,
        created_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (organization_id, id), CHECK (is_system = (created_by IS NULL)),
        FOREIGN KEY (organization_id, created_by) REFERENCES user_account (organization_id, id)""",
    "audit_entry": """
        organization_id uuid NOT NULL REFERENCES organization (id), sequence bigint NOT NULL,
        recorded_at timestamptz NOT NULL, actor_kind text NOT NULL, actor_id uuid, action text NOT NULL,
        subject text NOT NULL, details jsonb NOT NULL, previous_hash bytea NOT NULL, entry_hash bytea NOT NULL,
        PRIMARY KEY (organization_id, sequence), UNIQUE (organization_id, previous_hash)""",
}

GRANTS = {
    "organization": "SELECT, INSERT, UPDATE",
    "dealership": "SELECT, INSERT, UPDATE",
    "user_account": "SELECT, INSERT, UPDATE",
    "api_key": "SELECT, INSERT, UPDATE",
    "audit_entry": "SELECT, INSERT",
}

INDEXES = (
    "CREATE UNIQUE INDEX uq_api_key_system ON api_key (organization_id, purposes) WHERE is_system",
    "CREATE INDEX ix_refresh_token_family ON refresh_token (organization_id, family_id)",
    "CREATE INDEX ix_refresh_token_user ON refresh_token (organization_id, user_id)",
    "CREATE INDEX ix_sign_in_failure_age ON sign_in_failure (last_failed_at)",
)

# Before sign-in there is no organization: this table knows addresses as keyed digests only.
SIGN_IN_FAILURE = """
CREATE TABLE sign_in_failure (
    address_digest bytea PRIMARY KEY, failures bigint NOT NULL, last_failed_at timestamptz NOT NULL,
    blocked_until timestamptz NOT NULL
)"""

FIND_USER = """
CREATE FUNCTION find_user(p_email text) RETURNS TABLE (organization_id uuid, user_id uuid)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public AS $$
    SELECT u.organization_id, u.id FROM user_account u WHERE u.email = lower(p_email)
$$"""

FIND_API_KEY = """
CREATE FUNCTION find_api_key(p_public_id text) RETURNS TABLE (organization_id uuid, key_id uuid, digest bytea)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public AS $$
    SELECT k.organization_id, k.id, k.digest FROM api_key k WHERE k.public_id = p_public_id
$$"""

FIND_REFRESH = """
CREATE FUNCTION find_refresh_token(p_digest bytea) RETURNS TABLE (organization_id uuid, token_id uuid)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public AS $$
    SELECT t.organization_id, t.id FROM refresh_token t WHERE t.token_digest = p_digest
$$"""

LOOKUPS = {
    "find_user(text)": FIND_USER,
    "find_api_key(text)": FIND_API_KEY,
    "find_refresh_token(bytea)": FIND_REFRESH,
}

# The grants already forbid it to the application; this stops an owner's mistaken statement.
APPEND_ONLY = """
CREATE FUNCTION refuse_audit_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'audit entries are only ever appended'; END $$"""


def upgrade() -> None:
    """Create tables, indexes and look-ups."""
    for table, columns in TABLES.items():
        op.execute(f"CREATE TABLE {table} ({columns})")
        column = "id" if table == "organization" else "organization_id"
        protect(table, grants=GRANTS.get(table, "SELECT, INSERT, UPDATE, DELETE"), column=column)
    op.execute(SIGN_IN_FAILURE)
    op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON sign_in_failure TO {APPLICATION_ROLE}")
    for index in INDEXES:
        op.execute(index)
    op.execute(APPEND_ONLY)
    op.execute(
        "CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_entry "
        "FOR EACH STATEMENT EXECUTE FUNCTION refuse_audit_change()"
    )
    op.execute(f"GRANT SELECT (organization_id, id, email) ON user_account TO {LOOKUP_ROLE}")
    op.execute(f"GRANT SELECT (organization_id, id, public_id, digest) ON api_key TO {LOOKUP_ROLE}")
    op.execute(f"GRANT SELECT (organization_id, id, token_digest) ON refresh_token TO {LOOKUP_ROLE}")
    for signature, body in LOOKUPS.items():
        op.execute(body)
        grant_lookup(signature)


def downgrade() -> None:
    """Drop everything again."""
    for signature in LOOKUPS:
        op.execute(f"DROP FUNCTION {signature}")
    op.execute("DROP TABLE sign_in_failure")
    for table in reversed(TABLES):
        op.execute(f"DROP TABLE {table}")
    op.execute("DROP FUNCTION refuse_audit_change()")
