"""Create what AutoMatrix adds up of each day: how fast leads were answered, how far executions came."""

from alembic import op

from auterity_dagster.storage.migrations.row_security import LOOKUP_ROLE, grant_lookup, protect

revision = "0018"
down_revision: str | None = "0017"

TABLES = {
    "lead_response_day": """
        organization_id uuid NOT NULL REFERENCES organization (id), day date NOT NULL, dealership_id uuid NOT NULL,
        leads bigint NOT NULL, answered bigint NOT NULL CHECK (answered <= leads),
        within_5_min bigint NOT NULL CHECK (within_5_min <= answered),
        negative bigint NOT NULL, p50_s double precision, p90_s double precision,
        PRIMARY KEY (organization_id, day, dealership_id)""",
    "workflow_day": """
        organization_id uuid NOT NULL REFERENCES organization (id), day date NOT NULL, dealership_id uuid NOT NULL,
        workflow_id uuid NOT NULL, workflow_key text NOT NULL, received bigint NOT NULL, drafted bigint NOT NULL,
        reviewed bigint NOT NULL, approved bigint NOT NULL, sent bigint NOT NULL, succeeded bigint NOT NULL,
        failed bigint NOT NULL, prompt_tokens bigint NOT NULL, completion_tokens bigint NOT NULL,
        cost_nusd bigint NOT NULL,
        PRIMARY KEY (organization_id, day, dealership_id, workflow_id)""",
}

ORGANIZATIONS = """
    CREATE FUNCTION organizations_with_executions(p_since timestamptz, p_until timestamptz) RETURNS SETOF uuid
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public AS $$
        SELECT DISTINCT organization_id FROM execution WHERE received_at >= p_since AND received_at < p_until
        UNION SELECT DISTINCT organization_id FROM lead WHERE received_at >= p_since AND received_at < p_until
    $$"""
STUCK = """
    CREATE FUNCTION organizations_with_stuck_executions(p_before timestamptz) RETURNS SETOF uuid
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public AS $$
        SELECT DISTINCT organization_id FROM execution
        WHERE state IN ('queued', 'running') AND ready_at < p_before
        UNION SELECT DISTINCT organization_id FROM side_effect WHERE state = 'unknown'
        UNION SELECT DISTINCT organization_id FROM approval WHERE state = 'open' AND expires_at < p_before
    $$"""
LOOKUPS = {
    "organizations_with_executions(timestamptz, timestamptz)": ORGANIZATIONS,
    "organizations_with_stuck_executions(timestamptz)": STUCK,
}


def upgrade() -> None:
    """A day is written anew as long as answers to it may still arrive."""
    for table, columns in TABLES.items():
        op.execute(f"CREATE TABLE {table} ({columns})")
        protect(table, grants="SELECT, INSERT, DELETE")
    op.execute("CREATE INDEX ix_execution_received ON execution (received_at, organization_id)")
    op.execute("CREATE INDEX ix_lead_received ON lead (received_at, organization_id)")
    op.execute("CREATE INDEX ix_execution_subject ON execution (organization_id, subject)")
    op.execute("CREATE INDEX ix_side_effect_execution ON side_effect (organization_id, execution_id)")
    op.execute(f"GRANT SELECT (organization_id, received_at) ON lead TO {LOOKUP_ROLE}")
    op.execute(f"GRANT SELECT (organization_id, state) ON side_effect TO {LOOKUP_ROLE}")
    op.execute(f"GRANT SELECT (organization_id, state, expires_at) ON approval TO {LOOKUP_ROLE}")
    for signature, body in LOOKUPS.items():
        op.execute(body)
        grant_lookup(signature)


def downgrade() -> None:
    """Drop them; they can be added up again."""
    for signature in LOOKUPS:
        op.execute(f"DROP FUNCTION {signature}")
    for index in ("ix_execution_received", "ix_lead_received", "ix_execution_subject", "ix_side_effect_execution"):
        op.execute(f"DROP INDEX {index}")
    for table in TABLES:
        op.execute(f"DROP TABLE {table}")
