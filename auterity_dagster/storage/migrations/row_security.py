"""What every migration does to a table that belongs to organizations, and to a look-up that crosses them."""

from alembic import op

APPLICATION_ROLE = "auterity_app"
"""The role that processes use: no superuser, no BYPASSRLS, owner of nothing."""

LOOKUP_ROLE = "auterity_lookup"
"""NOLOGIN, BYPASSRLS: owns the SECURITY DEFINER functions that answer with ids only."""


def protect(table: str, *, grants: str = "SELECT, INSERT, UPDATE, DELETE", column: str = "organization_id") -> None:
    """Force row security on a table, by `column`, and grant the application role what it needs there.

    An unset organization sees nothing: after a commit the setting reads '' and not NULL, hence `nullif`.
    """
    op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
    op.execute(
        f"CREATE POLICY organization ON {table} "
        f"USING ({column} = nullif(current_setting('auterity.organization_id', true), '')::uuid)"
    )
    op.execute(f"GRANT {grants} ON {table} TO {APPLICATION_ROLE}")


def grant_lookup(signature: str) -> None:
    """Hand a SECURITY DEFINER function such as `f(text)` to the look-up role; only the application may call it."""
    op.execute(f"ALTER FUNCTION {signature} OWNER TO {LOOKUP_ROLE}")
    op.execute(f"REVOKE ALL ON FUNCTION {signature} FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION {signature} TO {APPLICATION_ROLE}")
