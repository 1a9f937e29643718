"""Let vehicles be unlisted, and remember which ones a person has to look at first."""

from alembic import op

from auterity_dagster.storage.migrations.row_security import protect

revision = "0029"
down_revision: str | None = "0028"

TABLE = """
    organization_id uuid NOT NULL, dealership_id uuid NOT NULL, listed bigint NOT NULL CHECK (listed > 0),
    gone jsonb NOT NULL, fed_at timestamptz NOT NULL,
    PRIMARY KEY (organization_id, dealership_id),
    FOREIGN KEY (organization_id, dealership_id) REFERENCES dealership (organization_id, id)"""


def upgrade() -> None:
    """At most one feed of a dealership waits: a later one decides anew."""
    op.execute("ALTER TABLE inventory_vehicle DROP CONSTRAINT inventory_vehicle_status_check")
    op.execute(
        "ALTER TABLE inventory_vehicle ADD CONSTRAINT inventory_vehicle_status_check "
        "CHECK (status IN ('available', 'on hold', 'sold', 'unlisted'))"
    )
    op.execute(f"CREATE TABLE inventory_absence ({TABLE})")
    protect("inventory_absence", grants="SELECT, INSERT, DELETE")


def downgrade() -> None:
    """What is unlisted counts as sold."""
    op.execute("DROP TABLE inventory_absence")
    op.execute("UPDATE inventory_vehicle SET status = 'sold' WHERE status = 'unlisted'")
    op.execute("ALTER TABLE inventory_vehicle DROP CONSTRAINT inventory_vehicle_status_check")
    op.execute(
        "ALTER TABLE inventory_vehicle ADD CONSTRAINT inventory_vehicle_status_check "
        "CHECK (status IN ('available', 'on hold', 'sold'))"
    )
