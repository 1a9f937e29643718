"""Create what training data rests on: consents, and the versions of each scope's dataset."""

from alembic import op

from auterity_dagster.storage.migrations.row_security import protect

revision = "0021"
down_revision: str | None = "0020"

TABLES = {
    "training_consent": """
        organization_id uuid NOT NULL REFERENCES organization (id), id uuid NOT NULL, dealership_id uuid,
        text_version text NOT NULL CHECK (text_version <> ''), given_by uuid NOT NULL,
        given_at timestamptz NOT NULL DEFAULT now(), revoked_by uuid, revoked_at timestamptz,
        CHECK ((revoked_by IS NULL) = (revoked_at IS NULL)), PRIMARY KEY (organization_id, id)""",
    "dataset_version": """
        organization_id uuid NOT NULL REFERENCES organization (id), scope text NOT NULL, version bigint NOT NULL,
        dataset_digest text NOT NULL, rows_digest text NOT NULL, rows bigint NOT NULL, card jsonb NOT NULL,
        consent_ids jsonb NOT NULL, drift jsonb, report_digest text NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (organization_id, scope, version), UNIQUE (organization_id, scope, dataset_digest)""",
}

# What was agreed to and what was prepared is written once; only a revocation is added.
GRANTS = {
    "training_consent": "SELECT, INSERT, UPDATE (revoked_by, revoked_at)",
    "dataset_version": "SELECT, INSERT",
}


def upgrade() -> None:
    """A verdict names the dataset that its artefact learned from: after a revocation one must know who saw the rows."""
    for table, columns in TABLES.items():
        op.execute(f"CREATE TABLE {table} ({columns})")
        protect(table, grants=GRANTS[table])
    op.execute("ALTER TABLE gate_verdict ADD COLUMN dataset_digest text")


def downgrade() -> None:
    """Consents are forgotten: rows that rest on them must not be trained on afterwards."""
    op.execute("ALTER TABLE gate_verdict DROP COLUMN dataset_digest")
    for table in TABLES:
        op.execute(f"DROP TABLE {table}")
