"""PostgreSQL for code of Dagster that only looks: sensors, schedules, assets."""

from collections.abc import Generator
from contextlib import contextmanager

import dagster as dg

from auterity_dagster.storage.database import BlockingDatabase


class DatabaseResource(dg.ConfigurableResource):
    """The application role's database."""

    url: str

    @contextmanager
    def connected(self) -> Generator[BlockingDatabase]:
        """Open at most two connections, and close them."""
        database = BlockingDatabase(self.url, pool_size=2)
        try:
            yield database
        finally:
            database.close()


def database_from_environment() -> DatabaseResource:
    """Return the resource with an address that is read at run time."""
    return DatabaseResource(url=dg.EnvVar("AUTERITY_DATABASE_URL"))
