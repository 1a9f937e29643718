"""Create the tables of workflows, the outbox, and the functions that see across organizations: ids and counts only."""

from alembic import op

from auterity_dagster.storage.migrations.row_security import LOOKUP_ROLE, grant_lookup, protect

revision = "0004"
down_revision: str | None = "0003"

OPEN = "state IN ('queued', 'running', 'waiting')"

TABLES = {
    "workflow": """
        organization_id uuid NOT NULL, id uuid NOT NULL, key text NOT NULL, name text NOT NULL,
        state text NOT NULL CHECK (state IN ('active', 'paused', 'archived')), template_key text,
        variables jsonb NOT NULL, active_version_id uuid, created_at timestamptz NOT NULL,
        PRIMARY KEY (organization_id, id), UNIQUE (organization_id, key)""",
    "workflow_version": """
        organization_id uuid NOT NULL, id uuid NOT NULL, workflow_id uuid NOT NULL, number bigint NOT NULL,
        digest text NOT NULL, graph_digest text NOT NULL, job text NOT NULL, definition jsonb NOT NULL,
        note text NOT NULL, published_by uuid, published_at timestamptz NOT NULL,
        PRIMARY KEY (organization_id, id), UNIQUE (organization_id, workflow_id, number),
        UNIQUE (organization_id, workflow_id, digest),
        FOREIGN KEY (organization_id, workflow_id) REFERENCES workflow (organization_id, id)""",
    "workflow_trigger": """
        organization_id uuid NOT NULL, id uuid NOT NULL, workflow_id uuid NOT NULL, version_id uuid NOT NULL,
        trigger_id text NOT NULL, type text NOT NULL CHECK (type IN ('event', 'schedule')), event_type text,
        dealership_id uuid, time_zone text, next_fire_at timestamptz,
        PRIMARY KEY (organization_id, id),
        FOREIGN KEY (organization_id, workflow_id) REFERENCES workflow (organization_id, id),
        FOREIGN KEY (organization_id, version_id) REFERENCES workflow_version (organization_id, id)""",
    "trigger_fire": """
        organization_id uuid NOT NULL, trigger_id uuid NOT NULL, scheduled_at timestamptz NOT NULL,
        fired_at timestamptz NOT NULL,
        PRIMARY KEY (organization_id, trigger_id, scheduled_at)""",
    "service_due": """
        organization_id uuid NOT NULL, id uuid NOT NULL, dealership_id uuid NOT NULL, external_key text NOT NULL,
        contact_id uuid NOT NULL, customer_name text NOT NULL,
        channel text NOT NULL CHECK (channel IN ('sms', 'email')), vehicle text NOT NULL, service text NOT NULL,
        times jsonb NOT NULL, due_at timestamptz NOT NULL,
        PRIMARY KEY (organization_id, id), UNIQUE (organization_id, dealership_id, external_key)""",
    "execution": f"""
        organization_id uuid NOT NULL, id uuid NOT NULL, dealership_id uuid NOT NULL, workflow_id uuid NOT NULL,
        version_id uuid NOT NULL, job text NOT NULL, lane text NOT NULL CHECK (lane IN ('interactive', 'batch')),
        subject text NOT NULL, idempotency_key text NOT NULL,
        state text NOT NULL CHECK ({OPEN} OR state IN ('succeeded', 'failed', 'cancelled')),
        ready_at timestamptz NOT NULL, fence bigint NOT NULL DEFAULT 0, run_id text, event jsonb NOT NULL,
        variables jsonb NOT NULL, error jsonb, is_cancel_requested boolean NOT NULL DEFAULT false,
        received_at timestamptz NOT NULL, deadline_at timestamptz NOT NULL, created_at timestamptz NOT NULL,
        finished_at timestamptz,
        PRIMARY KEY (organization_id, id), UNIQUE (organization_id, workflow_id, idempotency_key),
        FOREIGN KEY (organization_id, workflow_id) REFERENCES workflow (organization_id, id),
        FOREIGN KEY (organization_id, version_id) REFERENCES workflow_version (organization_id, id)""",
    "step_result": """
        organization_id uuid NOT NULL, execution_id uuid NOT NULL, path text NOT NULL, attempt bigint NOT NULL,
        kind text NOT NULL,
        state text NOT NULL CHECK (state IN ('running', 'waiting', 'succeeded', 'failed', 'skipped', 'cancelled')),
        starts bigint NOT NULL, fence bigint NOT NULL, input_digest text, output jsonb, error jsonb, deployment text,
        prompt_tokens bigint, completion_tokens bigint, cost_nusd bigint, retry_at timestamptz,
        started_at timestamptz NOT NULL, finished_at timestamptz,
        PRIMARY KEY (organization_id, execution_id, path, attempt),
        FOREIGN KEY (organization_id, execution_id) REFERENCES execution (organization_id, id)""",
    "approval": """
        organization_id uuid NOT NULL, id uuid NOT NULL, dealership_id uuid NOT NULL, execution_id uuid NOT NULL,
        path text NOT NULL, role text NOT NULL, title text NOT NULL, form jsonb NOT NULL,
        state text NOT NULL CHECK (state IN ('open', 'approved', 'rejected', 'expired', 'cancelled')),
        final jsonb, decided_by uuid, decided_by_name text, decided_at timestamptz, expires_at timestamptz NOT NULL,
        created_at timestamptz NOT NULL,
        PRIMARY KEY (organization_id, id), UNIQUE (organization_id, execution_id, path),
        FOREIGN KEY (organization_id, execution_id) REFERENCES execution (organization_id, id)""",
    "side_effect": """
        organization_id uuid NOT NULL, id uuid NOT NULL, key text NOT NULL, execution_id uuid NOT NULL,
        path text NOT NULL, kind text NOT NULL,
        state text NOT NULL CHECK (state IN ('intended', 'confirmed', 'failed', 'unknown')), request jsonb NOT NULL,
        provider_ref text, error jsonb, intended_at timestamptz NOT NULL, resolved_at timestamptz,
        PRIMARY KEY (organization_id, id), UNIQUE (organization_id, key),
        FOREIGN KEY (organization_id, execution_id) REFERENCES execution (organization_id, id)""",
    "task": """
        organization_id uuid NOT NULL, id uuid NOT NULL, dealership_id uuid NOT NULL, execution_id uuid NOT NULL,
        path text NOT NULL, role text NOT NULL, title text NOT NULL,
        state text NOT NULL CHECK (state IN ('open', 'done')), due_at timestamptz NOT NULL,
        created_at timestamptz NOT NULL,
        PRIMARY KEY (organization_id, id), UNIQUE (organization_id, execution_id, path),
        FOREIGN KEY (organization_id, execution_id) REFERENCES execution (organization_id, id)""",
    "outbox": """
        organization_id uuid NOT NULL, id uuid NOT NULL, topic text NOT NULL, type text NOT NULL,
        payload jsonb NOT NULL, position bigint, created_at timestamptz NOT NULL,
        PRIMARY KEY (organization_id, id), UNIQUE (organization_id, position)""",
}

INDEXES = (
    # Waiting for a person without an end is the year 9999 and stays out: the claim never walks over parked executions.
    f"CREATE INDEX ix_execution_ready ON execution (job, lane, organization_id, ready_at) "
    f"WHERE {OPEN} AND ready_at < '9999-01-01+00'",
    "CREATE INDEX ix_execution_recent ON execution (organization_id, created_at DESC, id)",
    "CREATE INDEX ix_workflow_trigger_event ON workflow_trigger (organization_id, event_type)",
    "CREATE INDEX ix_workflow_trigger_due ON workflow_trigger (next_fire_at) WHERE next_fire_at IS NOT NULL",
    "CREATE INDEX ix_approval_open ON approval (organization_id, created_at) WHERE state = 'open'",
    "CREATE INDEX ix_side_effect_unresolved ON side_effect (organization_id, intended_at) "
    "WHERE state IN ('intended', 'unknown')",
    "CREATE INDEX ix_outbox_unnumbered ON outbox (created_at) WHERE position IS NULL",
    "CREATE INDEX ix_outbox_topic ON outbox (organization_id, topic, position)",
)

# Each organization with ready work gets an equal share of the batch, so nobody's thousands delay another's one.
# The organizations are found by jumping from one index entry to the next organization's first.
CLAIM = f"""
CREATE FUNCTION claim_executions(
    p_job text, p_lane text, p_batch int, p_run_id text, p_now timestamptz, p_lease_until timestamptz
) RETURNS TABLE (organization_id uuid, execution_id uuid, fence bigint)
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
    WITH RECURSIVE busy (id) AS (
        (SELECT e.organization_id FROM execution e
         WHERE e.job = p_job AND e.lane = p_lane AND e.{OPEN} AND e.ready_at < '9999-01-01+00' AND e.ready_at <= p_now
         ORDER BY e.organization_id LIMIT 1)
        UNION ALL
        SELECT (SELECT e.organization_id FROM execution e
                WHERE e.job = p_job AND e.lane = p_lane AND e.{OPEN} AND e.ready_at < '9999-01-01+00'
                  AND e.ready_at <= p_now AND e.organization_id > busy.id
                ORDER BY e.organization_id LIMIT 1)
        FROM busy WHERE busy.id IS NOT NULL
    ),
    share (size) AS (SELECT ceil(p_batch::numeric / greatest(count(*), 1))::int FROM busy WHERE id IS NOT NULL),
    ready AS (
        SELECT picked.organization_id, picked.id FROM busy CROSS JOIN share CROSS JOIN LATERAL (
            SELECT e.organization_id, e.id, e.ready_at FROM execution e
            WHERE e.organization_id = busy.id AND e.job = p_job AND e.lane = p_lane AND e.{OPEN}
              AND e.ready_at < '9999-01-01+00' AND e.ready_at <= p_now
            ORDER BY e.ready_at LIMIT share.size FOR UPDATE SKIP LOCKED
        ) picked
        WHERE busy.id IS NOT NULL ORDER BY picked.ready_at LIMIT p_batch
    )
    UPDATE execution e SET state = 'running', fence = e.fence + 1, run_id = p_run_id, ready_at = p_lease_until
    FROM ready WHERE e.organization_id = ready.organization_id AND e.id = ready.id
    RETURNING e.organization_id, e.id, e.fence
$$"""

READY_WORK = f"""
CREATE FUNCTION ready_work(p_now timestamptz) RETURNS TABLE (job text, lane text, ready bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public AS $$
    SELECT e.job, e.lane, count(*) FROM execution e
    WHERE e.{OPEN} AND e.ready_at < '9999-01-01+00' AND e.ready_at <= p_now GROUP BY e.job, e.lane
$$"""

DUE_TRIGGERS = """
CREATE FUNCTION due_triggers(p_now timestamptz) RETURNS TABLE (organization_id uuid, trigger_id uuid)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public AS $$
    SELECT t.organization_id, t.id FROM workflow_trigger t WHERE t.next_fire_at <= p_now ORDER BY t.next_fire_at
$$"""

WORKING_ORGANIZATIONS = """
CREATE FUNCTION organizations_with_workflows() RETURNS TABLE (organization_id uuid)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public AS $$
    SELECT DISTINCT w.organization_id FROM workflow w
$$"""

FUNCTIONS = {
    "claim_executions(text, text, int, text, timestamptz, timestamptz)": CLAIM,
    "ready_work(timestamptz)": READY_WORK,
    "due_triggers(timestamptz)": DUE_TRIGGERS,
    "organizations_with_workflows()": WORKING_ORGANIZATIONS,
}

# What was published, fired or journaled is not rewritten: these tables lose the grants that nobody needs.
GRANTS = {
    "workflow_version": "SELECT, INSERT",
    "trigger_fire": "SELECT, INSERT",
    "workflow": "SELECT, INSERT, UPDATE",
    "execution": "SELECT, INSERT, UPDATE",
    "step_result": "SELECT, INSERT, UPDATE",
    "approval": "SELECT, INSERT, UPDATE",
    "side_effect": "SELECT, INSERT, UPDATE",
}


def upgrade() -> None:
    """Create tables, indexes and look-ups."""
    for table, columns in TABLES.items():
        op.execute(f"CREATE TABLE {table} ({columns})")
        protect(table, grants=GRANTS.get(table, "SELECT, INSERT, UPDATE, DELETE"))
    for index in INDEXES:
        op.execute(index)
    op.execute(f"GRANT SELECT, UPDATE ON execution TO {LOOKUP_ROLE}")
    op.execute(f"GRANT SELECT ON workflow, workflow_trigger TO {LOOKUP_ROLE}")
    for signature, body in FUNCTIONS.items():
        op.execute(body)
        grant_lookup(signature)


def downgrade() -> None:
    """Drop everything again."""
    for signature in FUNCTIONS:
        op.execute(f"DROP FUNCTION {signature}")
    for table in reversed(TABLES):
        op.execute(f"DROP TABLE {table}")
