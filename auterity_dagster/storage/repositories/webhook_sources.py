"""Senders of leads: each belongs to one dealership and signs with a secret that is derived and stored nowhere."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, cast
from uuid import UUID, uuid4

from sqlalchemy import insert, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from auterity_dagster.errors import Conflict
from auterity_dagster.identity.derivation import derived_secret
from auterity_dagster.storage.repositories.audit import organization_of
from auterity_dagster.storage.tables.inbound import WebhookSourceRow

FIND = text("SELECT organization_id FROM find_webhook_source(:source_id)")
SourceKind = Literal["adf", "json"]


@dataclass(frozen=True, slots=True)
class WebhookSource:
    """A sender; `kind` fixes what its bodies are."""

    organization_id: UUID
    id: UUID
    dealership_id: UUID
    name: str
    kind: SourceKind
    created_at: datetime


def source_secret(pepper: bytes, *, organization_id: UUID, source_id: UUID) -> str:
    """Return the source's signing secret in the form of Standard Webhooks, `whsec_…`."""
    secret = derived_secret(pepper, label="webhook source", parts=(organization_id.bytes, source_id.bytes))
    return f"whsec_{base64.b64encode(secret).decode()}"


async def locate(session: AsyncSession, source_id: UUID) -> UUID | None:
    """Return the organization an active source belongs to, across organizations."""
    return await session.scalar(FIND, {"source_id": source_id})


async def get(session: AsyncSession, source_id: UUID) -> WebhookSource | None:
    """Return an active source of the session's organization."""
    active = select(WebhookSourceRow).where(WebhookSourceRow.id == source_id, WebhookSourceRow.disabled_at.is_(None))
    row = (await session.scalars(active)).one_or_none()
    return _source(row) if row is not None else None


async def every(session: AsyncSession) -> Sequence[WebhookSource]:
    """Return the organization's active sources by name."""
    active = select(WebhookSourceRow).where(WebhookSourceRow.disabled_at.is_(None)).order_by(WebhookSourceRow.name)
    return [_source(row) for row in await session.scalars(active)]


async def create(
    session: AsyncSession, *, dealership_id: UUID, name: str, kind: SourceKind, now: datetime
) -> WebhookSource:
    """Make a source. Raises `Conflict` for a name that the dealership has in use."""
    source = WebhookSource(organization_of(session.sync_session), uuid4(), dealership_id, name, kind, now)
    try:
        await session.execute(
            insert(WebhookSourceRow).values(
                organization_id=source.organization_id,
                id=source.id,
                dealership_id=dealership_id,
                name=name,
                kind=kind,
                created_at=now,
            )
        )
    except IntegrityError as error:
        raise Conflict("another source of this dealership has this name", field="name") from error
    return source


def _source(row: WebhookSourceRow) -> WebhookSource:
    return WebhookSource(
        row.organization_id, row.id, row.dealership_id, row.name, cast(SourceKind, row.kind), row.created_at
    )
