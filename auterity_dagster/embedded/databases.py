"""The databases of one PostgreSQL server: ours, Dagster's and MLflow's, each with a role that sees nothing else."""

from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from psycopg.sql import SQL, Identifier, Literal
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from auterity_dagster.errors import ConfigurationInvalid, Unavailable
from auterity_dagster.storage.migrate import migrate

OWN_DATABASE = "auterity"
APPLICATION_ROLE = "auterity_app"
CONNECT_TIMEOUT_S = 5


@dataclass(frozen=True, slots=True)
class GuestDatabase:
    """A database that belongs to another program: its name, its role, and the file with the role's password."""

    name: str
    role: str
    secret: str


DAGSTER = GuestDatabase(name="dagster", role="auterity_dagster", secret="dagster_database_password")  # noqa: S106
MLFLOW = GuestDatabase(name="mlflow", role="auterity_mlflow", secret="mlflow_database_password")  # noqa: S106


@dataclass(frozen=True, slots=True)
class DatabaseUrls:
    """Where each role connects; `owner` may create roles and databases, and no service is given it."""

    owner: str = field(repr=False)
    application: str = field(repr=False)
    dagster: str = field(repr=False)
    mlflow: str = field(repr=False)


def database_urls(owner_url: str, *, secrets_dir: Path) -> DatabaseUrls:
    """Derive every role's address from the owner's. Raises `ConfigurationInvalid` when it is no PostgreSQL address."""
    url = parse_postgres_url(owner_url)

    def guest(database: GuestDatabase) -> str:
        password = (secrets_dir / database.secret).read_text()
        # Both programs know PostgreSQL by this driver; SQLAlchemy 2.1 would read the plain scheme as psycopg 3.
        guest_url = url.set(drivername="postgresql+psycopg2", username=database.role, password=password)
        return _text(guest_url.set(database=database.name))

    application = url.set(username=APPLICATION_ROLE, password=(secrets_dir / "app_database_password").read_text())
    return DatabaseUrls(owner=_text(url), application=_text(application), dagster=guest(DAGSTER), mlflow=guest(MLFLOW))


def parse_postgres_url(text: str) -> URL:
    """Read a PostgreSQL address, whatever driver it names. Raises `ConfigurationInvalid`."""
    try:
        url = make_url(text)
    except (ArgumentError, ValueError) as error:
        raise ConfigurationInvalid("AUTERITY_DATABASE_URL is no address: postgresql://user:…@host:5432/name") from error
    if url.get_backend_name() not in {"postgresql", "postgres"} or not url.database:
        raise ConfigurationInvalid(
            f"AUTERITY_DATABASE_URL must look like postgresql://user:…@host:5432/name, not {url.render_as_string()}"
        )
    return url.set(drivername="postgresql")


def plain_url(url: str) -> str:
    """The same address without a driver, as psycopg itself reads it."""
    return _text(make_url(url).set(drivername="postgresql"))


def require_reachable(owner_url: str) -> None:
    """Raise `Unavailable` with the server's own reason when nobody answers or lets us in at this address."""
    _connect(parse_postgres_url(owner_url)).close()


def create_own_database(server_url: str) -> None:
    """Create our own database in a server that has none yet (the embedded one)."""
    with _connect(make_url(server_url)) as connection:
        if not _has(connection, "pg_database", "datname", OWN_DATABASE):
            connection.execute(SQL("CREATE DATABASE {}").format(Identifier(OWN_DATABASE)))


def prepare_guests(urls: DatabaseUrls, *, secrets_dir: Path) -> None:
    """Create the guests' missing roles and databases, and set their passwords."""
    with _connect(make_url(urls.owner)) as connection:
        for guest in (DAGSTER, MLFLOW):
            try:
                _prepare(connection, guest, password=(secrets_dir / guest.secret).read_text())
            except psycopg.errors.InsufficientPrivilege as error:
                raise ConfigurationInvalid(
                    f"the role in AUTERITY_DATABASE_URL may not create the database {guest.name!r} and the role "
                    f"{guest.role!r}: {_first_line(error)}"
                ) from error


def migrate_database(urls: DatabaseUrls, *, secrets_dir: Path) -> None:
    """Bring our own database to the newest version and set the application role's password."""
    try:
        migrate(urls.owner, application_password=(secrets_dir / "app_database_password").read_text())
    except SQLAlchemyError as error:
        raise Unavailable(f"the database cannot be migrated: {_first_line(error)}") from error


def _connect(url: URL) -> psycopg.Connection:
    try:
        return psycopg.connect(_text(url), connect_timeout=CONNECT_TIMEOUT_S, autocommit=True)
    except psycopg.OperationalError as error:
        raise Unavailable(
            f"cannot connect to PostgreSQL at {url.render_as_string()}: {_first_line(error)}; "
            "check AUTERITY_DATABASE_URL and that the server runs"
        ) from error


def _prepare(connection: psycopg.Connection, guest: GuestDatabase, *, password: str) -> None:
    name, role = Identifier(guest.name), Identifier(guest.role)
    if not _has(connection, "pg_roles", "rolname", guest.role):
        connection.execute(SQL("CREATE ROLE {} LOGIN").format(role))
    # Hashed here: neither the server's log nor its statistics see the password.
    hashed = connection.pgconn.encrypt_password(password.encode(), guest.role.encode(), b"scram-sha-256").decode()
    connection.execute(SQL("ALTER ROLE {} PASSWORD {}").format(role, Literal(hashed)))
    if not _has(connection, "pg_database", "datname", guest.name):
        # An owner who is no superuser must be a member of the role to which it gives the database.
        connection.execute(SQL("GRANT {} TO CURRENT_USER").format(role))
        connection.execute(SQL("CREATE DATABASE {} OWNER {}").format(name, role))
        connection.execute(SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(name))


def _has(connection: psycopg.Connection, catalogue: str, column: str, name: str) -> bool:
    query = SQL("SELECT EXISTS (SELECT FROM {} WHERE {} = %s)").format(Identifier(catalogue), Identifier(column))
    row = connection.execute(query, (name,)).fetchone()
    return row is not None and bool(row[0])


def _text(url: URL) -> str:
    return url.render_as_string(hide_password=False)


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
