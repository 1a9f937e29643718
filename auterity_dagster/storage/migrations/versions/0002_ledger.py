"""Create the ledger: budgets, their windows, holds, double-entry bookings, and a usage row per attempt."""

from alembic import op

from auterity_dagster.storage.migrations.row_security import LOOKUP_ROLE, grant_lookup, protect

revision = "0002"
down_revision: str | None = "0001"

TABLES = {
    "budget": """
        organization_id uuid NOT NULL, id uuid NOT NULL, name text NOT NULL,
        scope text NOT NULL CHECK (scope IN ('organization', 'dealership', 'key', 'purpose', 'deployment')),
        value text NOT NULL,
        period text NOT NULL CHECK (period IN ('hour', 'day', 'week', 'month', 'quarter', 'year', 'lifetime')),
        time_zone text NOT NULL, cap_nusd bigint NOT NULL CHECK (cap_nusd >= 0),
        enforcement text NOT NULL CHECK (enforcement IN ('hard', 'soft', 'shadow')),
        version bigint NOT NULL, created_at timestamptz NOT NULL DEFAULT now(), archived_at timestamptz,
        PRIMARY KEY (organization_id, id), UNIQUE (organization_id, name)""",
    # Half of each page stays free: the new version of a hot row lands beside the old one, without touching an index.
    "budget_window": """
        organization_id uuid NOT NULL, id uuid NOT NULL, budget_id uuid NOT NULL, value text NOT NULL,
        opens_at timestamptz NOT NULL, closes_at timestamptz, is_hard boolean NOT NULL,
        cap_nusd bigint NOT NULL CHECK (cap_nusd >= 0),
        held_nusd bigint NOT NULL DEFAULT 0 CHECK (held_nusd >= 0),
        settled_nusd bigint NOT NULL DEFAULT 0 CHECK (settled_nusd >= 0),
        overage_nusd bigint NOT NULL DEFAULT 0 CHECK (overage_nusd >= 0),
        CONSTRAINT ck_budget_window_within_cap
            CHECK (NOT is_hard OR settled_nusd + held_nusd <= cap_nusd + overage_nusd),
        PRIMARY KEY (organization_id, id), UNIQUE (organization_id, budget_id, value, opens_at),
        FOREIGN KEY (organization_id, budget_id) REFERENCES budget (organization_id, id)""",
    "hold": """
        organization_id uuid NOT NULL, id uuid NOT NULL, request_id uuid NOT NULL, attempt bigint NOT NULL,
        dealership_id uuid, key_id uuid NOT NULL, purpose text NOT NULL, deployment_id text NOT NULL,
        price_key text NOT NULL, price_digest text NOT NULL, window_ids uuid[] NOT NULL,
        amount_nusd bigint NOT NULL CHECK (amount_nusd >= 0), cost_nusd bigint CHECK (cost_nusd >= 0),
        state text NOT NULL CHECK (state IN ('held', 'settled', 'voided', 'unknown')),
        created_at timestamptz NOT NULL DEFAULT now(), dispatched_at timestamptz, expires_at timestamptz NOT NULL,
        closed_at timestamptz, closed_by text CHECK (closed_by IN ('caller', 'reaper')), adjusted_at timestamptz,
        CHECK ((state = 'held') = (closed_at IS NULL)), CHECK ((state = 'held') = (cost_nusd IS NULL)),
        PRIMARY KEY (organization_id, id)""",
    "entry": """
        organization_id uuid NOT NULL, hold_id uuid NOT NULL, sequence bigint NOT NULL, account text NOT NULL,
        amount_nusd bigint NOT NULL, kind text NOT NULL CHECK (kind IN ('settlement', 'unknown', 'adjustment')),
        price_digest text NOT NULL, created_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (organization_id, hold_id, sequence, account),
        FOREIGN KEY (organization_id, hold_id) REFERENCES hold (organization_id, id)""",
    "usage": """
        organization_id uuid NOT NULL, day date NOT NULL, id uuid NOT NULL, request_id uuid NOT NULL,
        attempt bigint NOT NULL, dealership_id uuid, key_id uuid NOT NULL, purpose text NOT NULL, task text,
        deployment_id text NOT NULL, price_key text NOT NULL, price_digest text NOT NULL, prompt_tokens bigint,
        cache_read_tokens bigint, cache_write_5m_tokens bigint, cache_write_1h_tokens bigint,
        completion_tokens bigint, cost_nusd bigint NOT NULL, outcome text NOT NULL, latency_ms bigint,
        first_token_ms bigint, is_streamed boolean NOT NULL, provider_request_id text, policy_digest text NOT NULL,
        rule text, happened_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (organization_id, day, id)""",
}


def upgrade() -> None:
    """Entries are only ever added; holds and windows change through the ledger's statements."""
    for table, columns in TABLES.items():
        options = " WITH (fillfactor = 50)" if table == "budget_window" else ""
        op.execute(f"CREATE TABLE {table} ({columns}){options}")
    for table in ("budget", "budget_window", "hold", "usage"):
        protect(table, grants="SELECT, INSERT, UPDATE")
    protect("entry", grants="SELECT, INSERT")
    op.execute("ALTER TABLE api_key ADD COLUMN frozen_by_request_id uuid")
    op.execute("CREATE INDEX ix_hold_expires_at ON hold (expires_at) WHERE state = 'held'")
    op.execute("CREATE INDEX ix_hold_unknown ON hold (organization_id, created_at) WHERE state = 'unknown'")
    op.execute("CREATE INDEX ix_entry_account ON entry (organization_id, account, created_at)")
    op.execute("CREATE INDEX ix_usage_deployment ON usage (organization_id, deployment_id, day)")
    op.execute(
        "CREATE INDEX ix_usage_provider_request_id ON usage (organization_id, provider_request_id) "
        "WHERE provider_request_id IS NOT NULL"
    )
    # Per booking (hold, sequence): if each sums to 0 when it commits, so does every transaction.
    op.execute("""
        CREATE FUNCTION entry_booking_sums_to_zero() RETURNS trigger LANGUAGE plpgsql
        SET search_path = pg_catalog, public AS $$
        BEGIN
            IF (SELECT sum(e.amount_nusd) FROM entry e WHERE e.organization_id = NEW.organization_id
                AND e.hold_id = NEW.hold_id AND e.sequence = NEW.sequence) IS DISTINCT FROM 0 THEN
                RAISE EXCEPTION 'the entries of booking % of hold % do not sum to 0', NEW.sequence, NEW.hold_id
                    USING ERRCODE = 'check_violation', CONSTRAINT = 'entry_booking_sums_to_zero';
            END IF;
            RETURN NULL;
        END $$""")
    op.execute("""
        CREATE CONSTRAINT TRIGGER entry_booking_sums_to_zero AFTER INSERT ON entry DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION entry_booking_sums_to_zero()""")
    op.execute(f"GRANT SELECT (organization_id, state, expires_at) ON hold TO {LOOKUP_ROLE}")
    op.execute("""
        CREATE FUNCTION organizations_with_expired_holds() RETURNS SETOF uuid LANGUAGE sql STABLE SECURITY DEFINER
        SET search_path = pg_catalog, public AS $$
            SELECT DISTINCT organization_id FROM hold WHERE state = 'held' AND expires_at < now()
        $$""")
    grant_lookup("organizations_with_expired_holds()")


def downgrade() -> None:
    """The ledger goes with its tables."""
    op.execute("DROP FUNCTION organizations_with_expired_holds()")
    op.execute("ALTER TABLE api_key DROP COLUMN frozen_by_request_id")
    for table in reversed(TABLES):
        op.execute(f"DROP TABLE {table}")
    op.execute("DROP FUNCTION entry_booking_sums_to_zero()")
