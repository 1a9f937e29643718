"""Create what steering keeps: versions of policies, an organization's own prices, what decisions were made from."""

from alembic import op

from auterity_dagster.storage.migrations.row_security import protect

revision = "0012"
down_revision: str | None = "0011"

TABLES = {
    "steering_policy": """
        organization_id uuid NOT NULL REFERENCES organization (id), name text NOT NULL, version bigint NOT NULL,
        yaml text NOT NULL, digest text NOT NULL, note text NOT NULL,
        status text NOT NULL CHECK (status IN ('draft', 'active', 'archived')), reports jsonb NOT NULL DEFAULT '[]',
        created_by uuid NOT NULL, created_at timestamptz NOT NULL DEFAULT now(),
        activated_by uuid, activated_at timestamptz,
        PRIMARY KEY (organization_id, name, version), UNIQUE (organization_id, name, digest)""",
    "price": """
        organization_id uuid NOT NULL REFERENCES organization (id), id uuid NOT NULL, key text NOT NULL,
        in_force_from date NOT NULL, entry jsonb NOT NULL, digest text NOT NULL, change_percent bigint,
        imported_by uuid NOT NULL, imported_at timestamptz NOT NULL DEFAULT now(),
        approved_by uuid, approved_at timestamptz,
        PRIMARY KEY (organization_id, id), UNIQUE (organization_id, key, in_force_from, digest),
        CHECK ((approved_by IS NULL) = (approved_at IS NULL))""",
    "decision_context": """
        organization_id uuid NOT NULL REFERENCES organization (id),
        kind text NOT NULL CHECK (kind IN ('policy', 'catalog')), digest text NOT NULL, content jsonb NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (organization_id, kind, digest)""",
}

# What a version or a price says is written once; what becomes of it is not.
GRANTS = {
    "steering_policy": "SELECT, INSERT, UPDATE (status, reports, activated_by, activated_at)",
    "price": "SELECT, INSERT, UPDATE (approved_by, approved_at)",
    "decision_context": "SELECT, INSERT",
}

INDEXES = (
    "CREATE UNIQUE INDEX uq_steering_policy_active ON steering_policy (organization_id) WHERE status = 'active'",
    "CREATE UNIQUE INDEX uq_price_approved ON price (organization_id, key, in_force_from) "
    "WHERE approved_at IS NOT NULL",
)

NOTIFY = """
CREATE FUNCTION notify_steering() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_notify('auterity_steering', NEW.organization_id::text); RETURN NULL; END $$"""
NOTIFYING = ("steering_policy", "price", "deployment")


def upgrade() -> None:
    """Create the tables; a change of what steers an organization wakes every gateway."""
    for table, columns in TABLES.items():
        op.execute(f"CREATE TABLE {table} ({columns})")
        protect(table, grants=GRANTS[table])
    for index in INDEXES:
        op.execute(index)
    op.execute("ALTER TABLE request ADD COLUMN decided_on jsonb")
    op.execute(NOTIFY)
    for table in NOTIFYING:
        op.execute(
            f"CREATE TRIGGER notify_steering AFTER INSERT OR UPDATE ON {table} "
            "FOR EACH ROW EXECUTE FUNCTION notify_steering()"
        )


def downgrade() -> None:
    """Drop them."""
    op.execute("DROP TRIGGER notify_steering ON deployment")
    op.execute("ALTER TABLE request DROP COLUMN decided_on")
    for table in TABLES:
        op.execute(f"DROP TABLE {table}")
    op.execute("DROP FUNCTION notify_steering()")
