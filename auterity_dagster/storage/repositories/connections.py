"""Connections of an organization: secrets go in, are sealed, and come out only for the call they are for."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID, uuid4

from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from auterity_dagster.automatrix.connection import SETTINGS, Connection, ConnectionSettings
from auterity_dagster.errors import Conflict, Invalid, NotFound
from auterity_dagster.storage.repositories.audit import organization_of
from auterity_dagster.storage.sealing import Cell, seal, unseal
from auterity_dagster.storage.tables.connections import ConnectionRow

SHOWN = 4
"""How much of a secret is shown again: its end, and only of one that is long enough to stay secret."""
LONG_ENOUGH = 16
LIVE_KINDS = ("smtp", "sms")


@dataclass(frozen=True, slots=True)
class StoredConnection:
    """A connection as it is listed."""

    connection: Connection
    secret_hint: str | None
    has_secret: bool
    changed_at: datetime


def find_blocking(session: Session, name: str) -> Connection | None:
    """Return a connection by its name."""
    row = session.scalars(select(ConnectionRow).where(ConnectionRow.name == name)).one_or_none()
    return None if row is None else _connection(row)


def live_blocking(session: Session, kind: Literal["smtp", "sms"]) -> Connection | None:
    """Return the connection that a channel's messages leave through, None while they are only recorded."""
    which = select(ConnectionRow).where(ConnectionRow.kind == kind, ConnectionRow.is_live)
    row = session.scalars(which).one_or_none()
    return None if row is None else _connection(row)


def secret_blocking(session: Session, connection_id: UUID, *, pepper: bytes) -> str | None:
    """Return a connection's secret, for the one call that needs it."""
    sealed = session.scalar(select(ConnectionRow.sealed).where(ConnectionRow.id == connection_id))
    cell = Cell(organization_of(session), "connection", "sealed", connection_id)
    return None if sealed is None else unseal(pepper, sealed, cell=cell).decode()


async def every(session: AsyncSession) -> Sequence[StoredConnection]:
    """Return the organization's connections by name."""
    rows = await session.scalars(select(ConnectionRow).order_by(ConnectionRow.name))
    return [_stored(row) for row in rows]


async def find(session: AsyncSession, name: str) -> StoredConnection:
    """Return one. Raises `NotFound`."""
    row = (await session.scalars(select(ConnectionRow).where(ConnectionRow.name == name))).one_or_none()
    if row is None:
        raise NotFound("there is no such connection")
    return _stored(row)


async def add(
    session: AsyncSession, name: str, settings: ConnectionSettings, *, secret: str | None, pepper: bytes, now: datetime
) -> StoredConnection:
    """Make a connection. Raises `Conflict` for a name in use."""
    connection_id = uuid4()
    row = ConnectionRow(
        organization_id=organization_of(session.sync_session),
        id=connection_id,
        name=name,
        kind=settings.kind,
        settings=settings.model_dump(mode="json"),
        sealed=_sealed(session.sync_session, connection_id, secret, pepper),
        secret_hint=_hint(secret),
        is_live=False,
        created_at=now,
        changed_at=now,
    )
    try:
        columns = {column.key: getattr(row, column.key) for column in ConnectionRow.__table__.columns}
        await session.execute(insert(ConnectionRow).values(**columns))
    except IntegrityError as error:
        raise Conflict("another connection has this name", field="name") from error
    return _stored(row)


async def change_secret(session: AsyncSession, name: str, *, secret: str, pepper: bytes, now: datetime) -> UUID:
    """Replace the secret. Raises `NotFound`."""
    found = await find(session, name)
    sealed = _sealed(session.sync_session, found.connection.id, secret, pepper)
    values = {"sealed": sealed, "secret_hint": _hint(secret), "changed_at": now}
    await session.execute(update(ConnectionRow).where(ConnectionRow.id == found.connection.id).values(**values))
    return found.connection.id


async def set_live(session: AsyncSession, name: str, *, is_live: bool, now: datetime) -> UUID:
    """Let messages leave through it, or no more. Raises `Invalid` for a kind that carries none, and `Conflict`."""
    found = await find(session, name)
    if found.connection.settings.kind not in LIVE_KINDS:
        raise Invalid(f"only {' and '.join(LIVE_KINDS)} carry messages", field="name")
    try:
        which = update(ConnectionRow).where(ConnectionRow.id == found.connection.id)
        await session.execute(which.values(is_live=is_live, changed_at=now))
    except IntegrityError as error:
        raise Conflict("another connection of this kind is live: switch it off first", field="name") from error
    return found.connection.id


async def remove(session: AsyncSession, name: str) -> UUID:
    """Delete a connection and its secret; steps that name it fail from now on. Raises `NotFound`."""
    found = await find(session, name)
    await session.execute(delete(ConnectionRow).where(ConnectionRow.id == found.connection.id))
    return found.connection.id


def _sealed(session: Session, connection_id: UUID, secret: str | None, pepper: bytes) -> bytes | None:
    cell = Cell(organization_of(session), "connection", "sealed", connection_id)
    return None if secret is None else seal(pepper, secret.encode(), cell=cell)


def _hint(secret: str | None) -> str | None:
    return secret[-SHOWN:] if secret is not None and len(secret) >= LONG_ENOUGH else None


def _stored(row: ConnectionRow) -> StoredConnection:
    return StoredConnection(_connection(row), row.secret_hint, row.sealed is not None, row.changed_at)


def _connection(row: ConnectionRow) -> Connection:
    return Connection(row.id, row.name, SETTINGS.validate_python(row.settings), row.is_live)
