"""Add budgets of users and tags and alerts at shares of a cap; check bookings once a statement, not once a row."""

from alembic import op

from auterity_dagster.storage.migrations.row_security import LOOKUP_ROLE, grant_lookup, protect

revision = "0007"
down_revision: str | None = "0006"

SCOPES = "'organization', 'dealership', 'key', 'user', 'purpose', 'tag', 'deployment'"


def upgrade() -> None:
    """Old windows alert nobody: their budgets had no percentages."""
    op.execute("ALTER TABLE budget DROP CONSTRAINT budget_scope_check")
    op.execute(f"ALTER TABLE budget ADD CONSTRAINT budget_scope_check CHECK (scope IN ({SCOPES}))")
    op.execute("ALTER TABLE hold ADD COLUMN user_id uuid, ADD COLUMN tags text[] NOT NULL DEFAULT '{}'")
    op.execute("ALTER TABLE budget ADD COLUMN alert_percents smallint[] NOT NULL DEFAULT '{}'")
    op.execute("""
        ALTER TABLE budget_window ADD COLUMN alert_percents smallint[] NOT NULL DEFAULT '{}',
            ADD COLUMN alerted_percent smallint NOT NULL DEFAULT 0""")
    op.execute("""
        CREATE TABLE budget_alert (
            organization_id uuid NOT NULL, window_id uuid NOT NULL, percent smallint NOT NULL,
            settled_nusd bigint NOT NULL, cap_nusd bigint NOT NULL,
            crossed_at timestamptz NOT NULL DEFAULT now(), announced_at timestamptz,
            PRIMARY KEY (organization_id, window_id, percent),
            FOREIGN KEY (organization_id, window_id) REFERENCES budget_window (organization_id, id))""")
    protect("budget_alert", grants="SELECT, INSERT, UPDATE")
    op.execute("CREATE INDEX ix_budget_alert_new ON budget_alert (organization_id) WHERE announced_at IS NULL")
    op.execute(f"GRANT SELECT (organization_id, announced_at) ON budget_alert TO {LOOKUP_ROLE}")
    op.execute("""
        CREATE FUNCTION organizations_with_new_budget_alerts() RETURNS SETOF uuid LANGUAGE sql STABLE SECURITY DEFINER
        SET search_path = pg_catalog, public AS $$
            SELECT DISTINCT organization_id FROM budget_alert WHERE announced_at IS NULL
        $$""")
    grant_lookup("organizations_with_new_budget_alerts()")
    # A booking is added by one statement: if what each statement adds sums to 0, so does every transaction, and the
    # check costs one query a batch instead of two calls a settlement.
    op.execute("DROP TRIGGER entry_booking_sums_to_zero ON entry")
    op.execute("DROP FUNCTION entry_booking_sums_to_zero()")
    op.execute("""
        CREATE FUNCTION entry_booking_sums_to_zero() RETURNS trigger LANGUAGE plpgsql
        SET search_path = pg_catalog, public AS $$
        DECLARE wrong record;
        BEGIN
            SELECT hold_id, sequence INTO wrong FROM added GROUP BY organization_id, hold_id, sequence
                HAVING sum(amount_nusd) <> 0 LIMIT 1;
            IF FOUND THEN
                RAISE EXCEPTION 'the entries of booking % of hold % do not sum to 0', wrong.sequence, wrong.hold_id
                    USING ERRCODE = 'check_violation', CONSTRAINT = 'entry_booking_sums_to_zero';
            END IF;
            RETURN NULL;
        END $$""")
    op.execute("""
        CREATE TRIGGER entry_booking_sums_to_zero AFTER INSERT ON entry REFERENCING NEW TABLE AS added
        FOR EACH STATEMENT EXECUTE FUNCTION entry_booking_sums_to_zero()""")


def downgrade() -> None:
    """Budgets of users and tags have no place in the older schema."""
    op.execute("DROP TRIGGER entry_booking_sums_to_zero ON entry")
    op.execute("DROP FUNCTION entry_booking_sums_to_zero()")
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
    op.execute("DROP FUNCTION organizations_with_new_budget_alerts()")
    op.execute("DROP TABLE budget_alert")
    op.execute("ALTER TABLE budget_window DROP COLUMN alerted_percent, DROP COLUMN alert_percents")
    op.execute("ALTER TABLE budget DROP COLUMN alert_percents")
    op.execute("ALTER TABLE hold DROP COLUMN tags, DROP COLUMN user_id")
    op.execute("DELETE FROM budget WHERE scope IN ('user', 'tag')")
    op.execute("ALTER TABLE budget DROP CONSTRAINT budget_scope_check")
    op.execute("""ALTER TABLE budget ADD CONSTRAINT budget_scope_check
        CHECK (scope IN ('organization', 'dealership', 'key', 'purpose', 'deployment'))""")
