"""Create the pairs of answers that shadow traffic compares."""

from alembic import op

from auterity_dagster.storage.migrations.row_security import protect

revision = "0019"
down_revision: str | None = "0018"

TABLE = """
    organization_id uuid NOT NULL REFERENCES organization (id), shadow_request_id uuid NOT NULL,
    request_id uuid NOT NULL, rule text NOT NULL, task text,
    served_deployment_id text NOT NULL, served_artefact_digest text NOT NULL, served_answer_digest bytea,
    served_latency_ms bigint NOT NULL, served_cost_nusd bigint,
    shadow_deployment_id text NOT NULL, shadow_artefact_digest text NOT NULL, shadow_outcome text NOT NULL,
    shadow_answer_digest bytea, shadow_latency_ms bigint NOT NULL, shadow_cost_nusd bigint,
    happened_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organization_id, shadow_request_id)"""


def upgrade() -> None:
    """A pair is written once, when the copy has ended."""
    op.execute(f"CREATE TABLE shadow_pair ({TABLE})")
    protect("shadow_pair", grants="SELECT, INSERT")
    op.execute(
        "CREATE INDEX ix_shadow_pair_digests ON shadow_pair "
        "(organization_id, shadow_artefact_digest, served_artefact_digest, happened_at)"
    )


def downgrade() -> None:
    """The comparisons are forgotten."""
    op.execute("DROP TABLE shadow_pair")
