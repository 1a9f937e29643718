"""Create customers' vehicles, and keep since when a vehicle is in stock: what the shipped audiences look through."""

from alembic import op

from auterity_dagster.storage.migrations.row_security import protect

revision = "0027"
down_revision: str | None = "0026"

CUSTOMER_VEHICLE = """
    CREATE TABLE customer_vehicle (
        organization_id uuid NOT NULL, id uuid NOT NULL, dealership_id uuid NOT NULL, external_key text NOT NULL,
        contact_id uuid NOT NULL, customer_name text NOT NULL,
        channel text NOT NULL CHECK (channel IN ('sms', 'email')), vin text, make text NOT NULL,
        vehicle_model text NOT NULL, make_key text NOT NULL, vehicle_model_key text NOT NULL, year bigint NOT NULL,
        changed_at timestamptz NOT NULL,
        PRIMARY KEY (organization_id, id), UNIQUE (organization_id, dealership_id, external_key),
        FOREIGN KEY (organization_id, contact_id) REFERENCES contact (organization_id, id))"""


def upgrade() -> None:
    """Stock that is here already counts from today: nobody wrote down when it came."""
    op.execute(CUSTOMER_VEHICLE)
    protect("customer_vehicle")
    op.execute("CREATE INDEX ix_customer_vehicle_contact ON customer_vehicle (organization_id, contact_id)")
    op.execute("ALTER TABLE inventory_vehicle ADD COLUMN listed_at timestamptz NOT NULL DEFAULT now()")
    op.execute("ALTER TABLE inventory_vehicle ALTER COLUMN listed_at DROP DEFAULT")


def downgrade() -> None:
    """Forget both."""
    op.execute("ALTER TABLE inventory_vehicle DROP COLUMN listed_at")
    op.execute("DROP TABLE customer_vehicle")
