"""Create the two roles: the application's, and the look-up functions' owner."""

from alembic import op

from auterity_dagster.storage.migrations.row_security import APPLICATION_ROLE, LOOKUP_ROLE

revision = "0000"
down_revision: str | None = None


def upgrade() -> None:
    """Roles belong to the whole server: another database's migration may have made them; the lock keeps two apart."""
    op.execute("SELECT pg_advisory_xact_lock(hashtext('auterity roles'))")
    for role, attributes in (
        (APPLICATION_ROLE, "LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE"),
        (LOOKUP_ROLE, "NOLOGIN NOSUPERUSER BYPASSRLS"),
    ):
        op.execute(
            f"DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') "
            f"THEN CREATE ROLE {role} {attributes}; END IF; END $$"
        )
        op.execute(f"GRANT USAGE ON SCHEMA public TO {role}")
    op.execute(f"GRANT CREATE ON SCHEMA public TO {LOOKUP_ROLE}")


def downgrade() -> None:
    """The roles stay: other databases of the server may use them."""
    op.execute(f"REVOKE CREATE ON SCHEMA public FROM {LOOKUP_ROLE}")
