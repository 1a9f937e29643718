"""Engines and transactions: each belongs to one organization, and PostgreSQL's row security holds it to that.

`Database` serves the async processes (gateway, API), `BlockingDatabase` Dagster's and the command line's.
"""

from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from uuid import UUID

from sqlalchemy import Connection, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, SessionTransaction, sessionmaker

SET_ORGANIZATION = text("select set_config('auterity.organization_id', :organization_id, true)")


class OrganizationSession(Session):
    """A session whose every transaction begins by naming the organization it may see."""


@event.listens_for(OrganizationSession, "after_begin")
def _name_organization(session: Session, _transaction: SessionTransaction, connection: Connection) -> None:
    organization_id = session.info.get("organization_id")
    connection.execute(SET_ORGANIZATION, {"organization_id": str(organization_id or "")})


def psycopg_url(url: str) -> URL:
    """Return the URL with psycopg 3 as its driver, whatever driver it named."""
    return make_url(url).set(drivername="postgresql+psycopg")


class Database:
    """Async transactions on one PostgreSQL database, through a pool of at most `pool_size` connections."""

    def __init__(self, url: str, *, pool_size: int = 10) -> None:
        self.engine = create_async_engine(
            psycopg_url(url), pool_size=pool_size, max_overflow=0, pool_pre_ping=True, pool_timeout=5
        )
        self._sessions = async_sessionmaker(self.engine, sync_session_class=OrganizationSession, expire_on_commit=False)

    @asynccontextmanager
    async def begin(self, organization_id: UUID) -> AsyncGenerator[AsyncSession]:
        """One transaction that sees this organization's rows only; commits at the end, rolls back on an error."""
        async with self._sessions(info={"organization_id": organization_id}) as session, session.begin():
            yield session

    @asynccontextmanager
    async def begin_without_organization(self) -> AsyncGenerator[AsyncSession]:
        """One transaction that sees no organization's rows: for the look-up functions that return ids only."""
        async with self._sessions() as session, session.begin():
            yield session

    async def close(self) -> None:
        """Close every pooled connection."""
        await self.engine.dispose()


class BlockingDatabase:
    """The same for synchronous code."""

    def __init__(self, url: str, *, pool_size: int = 5) -> None:
        self.engine = create_engine(
            psycopg_url(url), pool_size=pool_size, max_overflow=0, pool_pre_ping=True, pool_timeout=5
        )
        self._sessions = sessionmaker(self.engine, class_=OrganizationSession, expire_on_commit=False)

    @contextmanager
    def begin(self, organization_id: UUID) -> Generator[Session]:
        """One transaction that sees this organization's rows only; commits at the end, rolls back on an error."""
        with self._sessions(info={"organization_id": organization_id}) as session, session.begin():
            yield session

    @contextmanager
    def begin_without_organization(self) -> Generator[Session]:
        """One transaction that sees no organization's rows: for the look-up functions that return ids only."""
        with self._sessions() as session, session.begin():
            yield session

    def close(self) -> None:
        """Close every pooled connection."""
        self.engine.dispose()
