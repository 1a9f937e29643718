"""Create labels, outcome sets, the routing predictor's projection, daily usage, and recommendations."""

from alembic import op

from auterity_dagster.storage.migrations.row_security import LOOKUP_ROLE, grant_lookup, protect

revision = "0009"
down_revision: str | None = "0008"

TABLES = {
    "feedback": """
        organization_id uuid NOT NULL, request_id uuid NOT NULL,
        kind text NOT NULL CHECK (kind IN ('thumb', 'workflow_outcome', 'judge')),
        key_id uuid NOT NULL, task text NOT NULL, artefact_digest text NOT NULL, deployment_id text NOT NULL,
        score double precision NOT NULL CHECK (score BETWEEN 0 AND 1),
        recorded_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (organization_id, request_id, kind)""",
    "outcome_set": """
        organization_id uuid NOT NULL REFERENCES organization (id), digest text NOT NULL, source text NOT NULL,
        outcomes bigint NOT NULL CHECK (outcomes > 0), recorded_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (organization_id, digest)""",
    "routing_predictor": """
        organization_id uuid NOT NULL REFERENCES organization (id),
        alias text NOT NULL CHECK (alias IN ('champion', 'challenger')),
        artefact_digest text NOT NULL, verdict_digest text NOT NULL, registered_version text,
        published_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (organization_id, alias)""",
    "usage_day": """
        organization_id uuid NOT NULL, day date NOT NULL, task text NOT NULL, deployment_id text NOT NULL,
        dealership_id uuid, purpose text NOT NULL, attempts bigint NOT NULL CHECK (attempts > 0),
        ok bigint NOT NULL, unreported bigint NOT NULL, prompt_tokens bigint NOT NULL, cached_tokens bigint NOT NULL,
        completion_tokens bigint NOT NULL, cost_nusd bigint NOT NULL, latencies jsonb NOT NULL,
        first_tokens jsonb NOT NULL, outcomes jsonb NOT NULL, rolled_at timestamptz NOT NULL DEFAULT now(),
        UNIQUE NULLS NOT DISTINCT (organization_id, day, task, deployment_id, dealership_id, purpose)""",
    "recommendation": """
        organization_id uuid NOT NULL REFERENCES organization (id), id uuid NOT NULL, task text NOT NULL,
        from_deployment text NOT NULL, to_deployment text NOT NULL, evidence jsonb NOT NULL, patch jsonb NOT NULL,
        saving_nusd bigint NOT NULL, saving_low_nusd bigint NOT NULL, saving_high_nusd bigint NOT NULL,
        quality_change_low double precision NOT NULL,
        state text NOT NULL CHECK (state IN ('open', 'applied', 'rolled_back', 'expired')),
        created_at timestamptz NOT NULL DEFAULT now(), expires_at timestamptz NOT NULL, decided_by uuid,
        applied_at timestamptz, rolled_back_at timestamptz, realised jsonb,
        CHECK ((applied_at IS NOT NULL) = (state IN ('applied', 'rolled_back'))),
        PRIMARY KEY (organization_id, id)""",
}
GRANTS = {
    "feedback": "SELECT, INSERT",
    "outcome_set": "SELECT, INSERT",
    "routing_predictor": "SELECT, INSERT, UPDATE, DELETE",
    "usage_day": "SELECT, INSERT, DELETE",
    "recommendation": "SELECT, INSERT, UPDATE",
}
LOOKUPS = {
    "organizations_with_quality()": """
        CREATE FUNCTION organizations_with_quality() RETURNS SETOF uuid LANGUAGE sql STABLE SECURITY DEFINER
        SET search_path = pg_catalog, public AS $$ SELECT DISTINCT organization_id FROM route_quality $$""",
    "organizations_with_usage(date, date)": """
        CREATE FUNCTION organizations_with_usage(p_since date, p_until date) RETURNS SETOF uuid
        LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public AS $$
            SELECT DISTINCT organization_id FROM usage WHERE day BETWEEN p_since AND p_until
        $$""",
}


def upgrade() -> None:
    """A running sum of labels is no whole number: `route_quality.items` becomes one with a fraction."""
    for table, columns in TABLES.items():
        op.execute(f"CREATE TABLE {table} ({columns})")
        protect(table, grants=GRANTS[table])
    op.execute("ALTER TABLE route_quality ALTER COLUMN items TYPE double precision")
    op.execute("ALTER TABLE request ADD COLUMN artefact_digest text")
    op.execute("CREATE INDEX ix_request_id ON request (organization_id, id)")
    op.execute("CREATE INDEX ix_feedback_recorded_at ON feedback (organization_id, recorded_at)")
    op.execute("CREATE INDEX ix_usage_day ON usage (day, organization_id)")
    op.execute(
        "CREATE UNIQUE INDEX uq_recommendation_open ON recommendation "
        "(organization_id, task, from_deployment, to_deployment) WHERE state = 'open'"
    )
    op.execute(f"GRANT SELECT (organization_id) ON route_quality TO {LOOKUP_ROLE}")
    op.execute(f"GRANT SELECT (organization_id, day) ON usage TO {LOOKUP_ROLE}")
    for signature, body in LOOKUPS.items():
        op.execute(body)
        grant_lookup(signature)


def downgrade() -> None:
    """Labels are gone with it; their running sums stay as whole numbers."""
    for signature in LOOKUPS:
        op.execute(f"DROP FUNCTION {signature}")
    op.execute("DROP INDEX ix_usage_day")
    op.execute("DROP INDEX ix_request_id")
    op.execute("ALTER TABLE request DROP COLUMN artefact_digest")
    op.execute("DELETE FROM route_quality WHERE source NOT IN ('evaluation')")
    op.execute("ALTER TABLE route_quality ALTER COLUMN items TYPE bigint")
    for table in reversed(TABLES):
        op.execute(f"DROP TABLE {table}")
