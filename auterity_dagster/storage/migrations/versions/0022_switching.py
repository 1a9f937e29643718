"""Let a scope have a challenger, keep what was released, ask two people, and ask for training."""

from alembic import op

from auterity_dagster.storage.migrations.row_security import LOOKUP_ROLE, grant_lookup, protect

revision = "0022"
down_revision: str | None = "0021"

TABLES = {
    "released_artefact": """
        organization_id uuid NOT NULL REFERENCES organization (id), scope text NOT NULL, artefact_digest text NOT NULL,
        verdict_digest text NOT NULL, may_route text NOT NULL, registered_name text NOT NULL,
        registered_version text NOT NULL, model text NOT NULL, price_key text NOT NULL,
        context_tokens bigint NOT NULL, output_tokens bigint NOT NULL, tasks jsonb NOT NULL, families jsonb NOT NULL,
        released_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (organization_id, scope, artefact_digest)""",
    "answer_comparison": """
        organization_id uuid NOT NULL REFERENCES organization (id), scope text NOT NULL, request_id uuid NOT NULL,
        champion_digest text, challenger_digest text NOT NULL,
        winner text NOT NULL CHECK (winner IN ('challenger', 'champion', 'tie')), decided_by text NOT NULL,
        recorded_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (organization_id, scope, request_id)""",
    "promotion_request": """
        organization_id uuid NOT NULL REFERENCES organization (id), id uuid NOT NULL, scope text NOT NULL,
        from_digest text, to_digest text NOT NULL, reason text NOT NULL,
        state text NOT NULL CHECK (state IN ('open', 'approved', 'rejected', 'lost')),
        requested_by uuid NOT NULL, requested_at timestamptz NOT NULL DEFAULT now(),
        decided_by uuid, decided_at timestamptz,
        CHECK (decided_by IS NULL OR decided_by <> requested_by OR state <> 'approved'),
        PRIMARY KEY (organization_id, id)""",
    "retrain_request": """
        organization_id uuid NOT NULL REFERENCES organization (id), id uuid NOT NULL, scope text NOT NULL,
        reason text NOT NULL CHECK (reason IN
            ('new_rows', 'drift', 'quality_lost', 'consent_revoked', 'base_changed', 'person')),
        evidence jsonb NOT NULL, budget_nusd bigint NOT NULL CHECK (budget_nusd >= 0), recipe text NOT NULL,
        configuration jsonb NOT NULL,
        state text NOT NULL CHECK (state IN ('open', 'started', 'finished', 'failed', 'cancelled')),
        opened_by text NOT NULL, opened_at timestamptz NOT NULL DEFAULT now(), run_id text, closed_at timestamptz,
        PRIMARY KEY (organization_id, id)""",
}
GRANTS = {
    "released_artefact": "SELECT, INSERT, UPDATE",
    "answer_comparison": "SELECT, INSERT",
    "promotion_request": "SELECT, INSERT, UPDATE (state, decided_by, decided_at)",
    "retrain_request": "SELECT, INSERT, UPDATE (state, run_id, closed_at)",
}
LOOKUPS = {
    "organizations_with_open_retraining()": """
        CREATE FUNCTION organizations_with_open_retraining() RETURNS SETOF uuid LANGUAGE sql STABLE SECURITY DEFINER
        SET search_path = pg_catalog, public AS $$
            SELECT DISTINCT organization_id FROM retrain_request WHERE state IN ('open', 'started')
        $$""",
    "organizations_with_serving()": """
        CREATE FUNCTION organizations_with_serving() RETURNS SETOF uuid LANGUAGE sql STABLE SECURITY DEFINER
        SET search_path = pg_catalog, public AS $$ SELECT DISTINCT organization_id FROM serving_state $$""",
}
READ_BY_LOOKUPS = {"retrain_request": "organization_id, state", "serving_state": "organization_id"}


def upgrade() -> None:
    """A scope may serve the base route again: then it has no digest. A withdrawn deployment wakes the gateways too."""
    for table, columns in TABLES.items():
        op.execute(f"CREATE TABLE {table} ({columns})")
        protect(table, grants=GRANTS[table])
    op.execute(
        "CREATE UNIQUE INDEX uq_retrain_request_open ON retrain_request (organization_id, scope) "
        "WHERE state IN ('open', 'started')"
    )
    op.execute(
        "CREATE UNIQUE INDEX uq_promotion_request_open ON promotion_request (organization_id, scope) "
        "WHERE state = 'open'"
    )
    op.execute(
        "ALTER TABLE serving_state ALTER COLUMN current_digest DROP NOT NULL, ADD COLUMN challenger_digest text, "
        "ADD COLUMN challenger_percent bigint NOT NULL DEFAULT 0, ADD COLUMN challenger_since timestamptz, "
        "ADD COLUMN projected_sequence bigint NOT NULL DEFAULT 0, "
        "ADD CHECK ((challenger_digest IS NULL) = (challenger_since IS NULL))"
    )
    op.execute("ALTER TABLE switch_ledger ALTER COLUMN to_digest DROP NOT NULL")
    for table, columns in READ_BY_LOOKUPS.items():
        op.execute(f"GRANT SELECT ({columns}) ON {table} TO {LOOKUP_ROLE}")
    for signature, body in LOOKUPS.items():
        op.execute(body)
        grant_lookup(signature)
    op.execute("""
        CREATE FUNCTION notify_withdrawn() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN PERFORM pg_notify('auterity_steering', OLD.organization_id::text); RETURN NULL; END $$""")
    op.execute(
        "CREATE TRIGGER notify_withdrawn AFTER DELETE ON deployment FOR EACH ROW EXECUTE FUNCTION notify_withdrawn()"
    )


def downgrade() -> None:
    """Scopes that serve the base route are forgotten."""
    op.execute("DROP TRIGGER notify_withdrawn ON deployment")
    op.execute("DROP FUNCTION notify_withdrawn()")
    for signature in LOOKUPS:
        op.execute(f"DROP FUNCTION {signature}")
    for table, columns in READ_BY_LOOKUPS.items():
        op.execute(f"REVOKE SELECT ({columns}) ON {table} FROM {LOOKUP_ROLE}")
    op.execute("DELETE FROM switch_ledger WHERE to_digest IS NULL")
    op.execute("DELETE FROM serving_state WHERE current_digest IS NULL")
    op.execute("ALTER TABLE switch_ledger ALTER COLUMN to_digest SET NOT NULL")
    op.execute(
        "ALTER TABLE serving_state DROP COLUMN challenger_digest, DROP COLUMN challenger_percent, "
        "DROP COLUMN challenger_since, DROP COLUMN projected_sequence, ALTER COLUMN current_digest SET NOT NULL"
    )
    for table in TABLES:
        op.execute(f"DROP TABLE {table}")
