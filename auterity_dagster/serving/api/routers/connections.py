"""Connections to outside systems: named, tried, switched live; a secret goes in and never comes out."""

import asyncio
import time
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Path
from pydantic import BaseModel, ConfigDict, StringConstraints

from auterity_dagster.automatrix.connection import (
    ConnectionSettings,
    SmsSettings,
    SmtpSettings,
    WebService,
    require_addresses,
)
from auterity_dagster.errors import Invalid
from auterity_dagster.identity.permission import Permission
from auterity_dagster.public_address import BlockedAddress, target_of
from auterity_dagster.public_http import CallFailed, HttpCall, PublicHttp
from auterity_dagster.serving.api.state import State
from auterity_dagster.serving.authentication import CurrentPrincipal
from auterity_dagster.serving.declared_router import DeclaredRouter
from auterity_dagster.storage.repositories import audit, connections
from auterity_dagster.storage.repositories.connections import StoredConnection

router = DeclaredRouter(tags=["connections"])
TEST_TIMEOUT_S = 10.0
Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
PathName = Annotated[str, Path(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
Secret = Annotated[str, StringConstraints(min_length=1, max_length=4096, pattern=r"^[^\r\n\x00]+$")]
MANAGE: dict[str, Any] = {"authentication": "user", "permission": Permission.CONNECTION_MANAGE}
CHANGE: dict[str, Any] = {**MANAGE, "body_limit_bytes": 16 * 1024, "audit_class": "change", "problems": (404, 409)}


class _Write(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ConnectionAdd(_Write):
    """What a workflow will call by this name, and the secret it needs there."""

    name: Name
    settings: ConnectionSettings
    secret: Secret | None = None


class SecretWrite(_Write):
    """A secret that takes the place of the one before."""

    secret: Secret


class LiveWrite(_Write):
    """Whether messages really leave; while no connection of a kind is live they are only recorded."""

    is_live: bool


class ConnectionRead(BaseModel):
    """A connection as it is listed; `secret_hint` is the end of a long secret."""

    id: UUID
    name: str
    settings: ConnectionSettings
    has_secret: bool
    secret_hint: str | None
    is_live: bool
    changed_at: datetime


class ConnectionTested(BaseModel):
    """What a call to the connection's address came to; `blocked` is an address that may not be called."""

    outcome: Literal["answered", "connected", "blocked", "failed", "nothing_to_test"]
    status: int | None
    detail: str


@router.post("/connections", **CHANGE, status_code=201)
async def add_connection(write: ConnectionAdd, state: State, principal: CurrentPrincipal) -> ConnectionRead:
    """Make a connection. An address that may not be called is refused here already."""
    require_addresses(write.settings)
    if isinstance(write.settings, WebService | SmsSettings):
        target_of(write.settings.base_url, private_origins=state.settings.private_origins)
    async with state.database.begin(principal.organization_id) as session:
        stored = await connections.add(
            session, write.name, write.settings, secret=write.secret, pepper=state.pepper, now=state.clock.now()
        )
        await audit.append(
            session,
            actor=principal,
            action="connection.created",
            subject=f"connections/{stored.connection.id}",
            details={"kind": write.settings.kind},
        )
    return _read(stored)


@router.get("/connections", **MANAGE, body_limit_bytes=0, audit_class="none")
async def list_connections(state: State, principal: CurrentPrincipal) -> list[ConnectionRead]:
    """Return the organization's connections; nobody can read a secret again."""
    async with state.database.begin(principal.organization_id) as session:
        return [_read(one) for one in await connections.every(session)]


@router.put("/connections/{name}/secret", **CHANGE, status_code=204)
async def change_secret(name: PathName, write: SecretWrite, state: State, principal: CurrentPrincipal) -> None:
    """Replace the secret; the next call uses the new one."""
    async with state.database.begin(principal.organization_id) as session:
        connection_id = await connections.change_secret(
            session, name, secret=write.secret, pepper=state.pepper, now=state.clock.now()
        )
        subject = f"connections/{connection_id}"
        await audit.append(session, actor=principal, action="connection.secret_changed", subject=subject, details={})


@router.put("/connections/{name}/live", **CHANGE, status_code=204)
async def set_live(name: PathName, write: LiveWrite, state: State, principal: CurrentPrincipal) -> None:
    """Let messages leave through this connection, or only record them again."""
    principal.require(Permission.USER_MANAGE)
    async with state.database.begin(principal.organization_id) as session:
        if write.is_live:
            _require_way_out((await connections.find(session, name)).connection.settings, state.settings.public_url)
        connection_id = await connections.set_live(session, name, is_live=write.is_live, now=state.clock.now())
        await audit.append(
            session,
            actor=principal,
            action="connection.live_messaging",
            subject=f"connections/{connection_id}",
            details={"is_live": write.is_live},
        )


@router.delete("/connections/{name}", **{**CHANGE, "body_limit_bytes": 0}, status_code=204)
async def remove_connection(name: PathName, state: State, principal: CurrentPrincipal) -> None:
    """Delete a connection with its secret; steps that name it fail from now on."""
    async with state.database.begin(principal.organization_id) as session:
        connection_id = await connections.remove(session, name)
        subject = f"connections/{connection_id}"
        await audit.append(session, actor=principal, action="connection.removed", subject=subject, details={})


@router.post("/connections/{name}/test", **{**MANAGE, "body_limit_bytes": 0, "audit_class": "none", "problems": (404,)})
async def test_connection(name: PathName, state: State, principal: CurrentPrincipal) -> ConnectionTested:
    """Call the address without the secret and say what came of it."""
    async with state.database.begin(principal.organization_id) as session:
        settings = (await connections.find(session, name)).connection.settings
    http = PublicHttp(private_origins=state.settings.private_origins)
    return await asyncio.to_thread(_tried, http, settings)


def _require_way_out(settings: ConnectionSettings, public_url: str) -> None:
    """E-mails name a link that ends them, and mail programs follow it by https only (RFC 8058)."""
    if isinstance(settings, SmtpSettings) and not public_url.startswith("https://"):
        raise Invalid(
            "e-mails name a link that ends them: set AUTERITY_PUBLIC_URL to the API's own https:// address first",
            code="public_url_needed",
            field="is_live",
        )


def _tried(http: PublicHttp, settings: ConnectionSettings) -> ConnectionTested:
    try:
        if isinstance(settings, WebService | SmsSettings):
            answer = http.call(HttpCall("GET", settings.base_url, timeout_s=TEST_TIMEOUT_S))
            return ConnectionTested(outcome="answered", status=answer.status, detail="the service answers")
        if isinstance(settings, SmtpSettings):
            http.open(
                settings.host, settings.port, deadline=time.monotonic() + TEST_TIMEOUT_S, is_private=False
            ).close()
            return ConnectionTested(outcome="connected", status=None, detail="the mail server takes connections")
    except BlockedAddress as error:
        return ConnectionTested(outcome="blocked", status=None, detail=error.message)
    except CallFailed as error:
        return ConnectionTested(outcome="failed", status=None, detail=error.message)
    return ConnectionTested(
        outcome="nothing_to_test", status=None, detail="its messages go through the mail connection"
    )


def _read(stored: StoredConnection) -> ConnectionRead:
    return ConnectionRead(
        id=stored.connection.id,
        name=stored.connection.name,
        settings=stored.connection.settings,
        has_secret=stored.has_secret,
        secret_hint=stored.secret_hint,
        is_live=stored.connection.is_live,
        changed_at=stored.changed_at,
    )
