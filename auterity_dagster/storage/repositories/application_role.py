"""Checks that a process's database role is bound by row security, without which organizations see each other."""

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from auterity_dagster.errors import ConfigurationInvalid, Unavailable
from auterity_dagster.storage.database import Database

ATTRIBUTES = text(
    "SELECT rolname, rolsuper OR rolbypassrls OR EXISTS ("
    "  SELECT FROM pg_class c"
    "  WHERE c.relnamespace = 'public'::regnamespace AND pg_has_role(r.oid, c.relowner, 'MEMBER'))"
    " AS is_unbound FROM pg_roles r WHERE rolname = current_user"
)


async def require_bound_role(database: Database) -> None:
    """Raise `ConfigurationInvalid` for a superuser, a role that bypasses row security, or a tables' owner.

    Raises `Unavailable` when PostgreSQL does not answer.
    """
    try:
        async with database.begin_without_organization() as session:
            role = (await session.execute(ATTRIBUTES)).one()
    except (DBAPIError, PoolTimeout) as error:
        raise Unavailable("PostgreSQL does not answer, or refuses the credentials of AUTERITY_DATABASE_URL") from error
    if role.is_unbound:
        raise ConfigurationInvalid(
            f"AUTERITY_DATABASE_URL signs in as {role.rolname}, which row security does not bind: use auterity_app"
        )
