"""Bring a database's schema to the newest version, as its owner; safe to run from several processes at once."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from auterity_dagster.storage.database import psycopg_url


def migrate(owner_url: str, *, application_password: str | None = None, revision: str = "head") -> None:
    """Run the migrations up to `revision`; set the application role's password where one is given.

    `owner_url` names a role that may create roles, tables and functions.
    """
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    engine = create_engine(psycopg_url(owner_url), poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('auterity migrate'))"))
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        if application_password is not None:
            # A utility statement takes no bound parameter: format() quotes the literal inside PostgreSQL.
            statement = connection.scalar(
                text("SELECT format('ALTER ROLE auterity_app PASSWORD %L', CAST(:password AS text))"),
                {"password": application_password},
            )
            connection.exec_driver_sql(str(statement))
    engine.dispose()
