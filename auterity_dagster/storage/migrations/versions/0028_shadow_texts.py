"""Keep what was asked and said in a shadow pair, sealed, until it has been compared."""

from alembic import op

from auterity_dagster.storage.migrations.row_security import protect

revision = "0028"
down_revision: str | None = "0027"

TABLE = """
    organization_id uuid NOT NULL REFERENCES organization (id), shadow_request_id uuid NOT NULL,
    shadow_artefact_digest text NOT NULL, sealed bytea NOT NULL, kept_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organization_id, shadow_request_id)"""


def upgrade() -> None:
    """A text is written with its pair and deleted with the comparison that it led to."""
    op.execute(f"CREATE TABLE shadow_text ({TABLE})")
    protect("shadow_text", grants="SELECT, INSERT, DELETE")
    op.execute("CREATE INDEX ix_shadow_text_kept ON shadow_text (organization_id, kept_at)")


def downgrade() -> None:
    """What was not compared yet is forgotten."""
    op.execute("DROP TABLE shadow_text")
