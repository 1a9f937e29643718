"""API keys: made with no more rights than their maker has, shown once, listed without their secret, revoked."""

from datetime import datetime, timedelta
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from auterity_dagster.errors import Conflict, Invalid
from auterity_dagster.identity.permission import Permission
from auterity_dagster.identity.principal import Principal
from auterity_dagster.relaycore.allowance import EXPLORATION, SHADOW
from auterity_dagster.serving.api.state import State
from auterity_dagster.serving.authentication import CurrentPrincipal
from auterity_dagster.serving.declared_router import DeclaredRouter
from auterity_dagster.storage.repositories import api_keys, audit, organizations
from auterity_dagster.storage.repositories.api_keys import SYSTEM_PURPOSES, StoredKey

router = DeclaredRouter(prefix="/api-keys", tags=["API keys"])
BODY_LIMIT_BYTES = 16_384
RESERVED_PURPOSES = frozenset({*SYSTEM_PURPOSES, SHADOW, EXPLORATION})
"""What the organization's services use, and what calls are for that nobody asked for: budgets treat them otherwise."""

Purpose = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,31}$")]


class ApiKeyAdd(BaseModel):
    """A new key: what it may do, what it is used for, which dealerships it is limited to, and when it ends."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, StringConstraints(min_length=1, max_length=120, strip_whitespace=True)]
    mode: Literal["live", "test"] = "live"
    scopes: frozenset[Permission] = Field(min_length=1)
    purposes: frozenset[Purpose] = Field(default=frozenset(), max_length=16)
    dealership_ids: Annotated[frozenset[UUID], Field(max_length=200)] | None = None
    expires_in_days: int | None = Field(default=90, ge=1, le=366)


class ApiKeyRead(BaseModel):
    """A key without its secret; `public_id` is the part of it that may be shown."""

    id: UUID
    public_id: str
    name: str
    mode: str
    scopes: list[str]
    purposes: list[str]
    dealership_ids: list[UUID] | None
    is_system: bool
    created_by: UUID | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


class ApiKeyAdded(ApiKeyRead):
    """A new key with its secret, which nobody can show again."""

    key: str


@router.get("", authentication="user", permission=Permission.KEY_MANAGE, body_limit_bytes=0, audit_class="none")
async def list_api_keys(state: State, principal: CurrentPrincipal) -> list[ApiKeyRead]:
    """Return the organization's keys, newest first."""
    async with state.database.begin(principal.organization_id) as session:
        return [_read(key) for key in await api_keys.every(session)]


@router.post(
    "",
    authentication="user",
    permission=Permission.KEY_MANAGE,
    body_limit_bytes=BODY_LIMIT_BYTES,
    audit_class="change",
    status_code=201,
    problems=(404,),
)
async def add_api_key(state: State, principal: CurrentPrincipal, write: ApiKeyAdd) -> ApiKeyAdded:
    """Make a key; it never does more than its maker may do at the time it is used."""
    principal.require_grantable(write.scopes, dealership_ids=write.dealership_ids)
    if not write.purposes.isdisjoint(RESERVED_PURPOSES):
        raise Invalid("this purpose belongs to the organization's own services", field="purposes")
    lifetime = timedelta(days=write.expires_in_days) if write.expires_in_days is not None else None
    async with state.database.begin(principal.organization_id) as session:
        await organizations.require_dealerships(session, write.dealership_ids)
        key_id, secret = await api_keys.add(
            session,
            pepper=state.pepper,
            name=write.name,
            mode=write.mode,
            scopes=write.scopes,
            purposes=write.purposes,
            dealership_ids=write.dealership_ids,
            expires_at=state.clock.now() + lifetime if lifetime is not None else None,
            created_by=principal.id,
        )
        key = await api_keys.get(session, key_id)
        details = {"scopes": sorted(write.scopes), "public_id": key.public_id}
        await audit.append(
            session, actor=principal, action="api_key.added", subject=f"api_key/{key_id}", details=details
        )
    return ApiKeyAdded(**_read(key).model_dump(), key=secret)


@router.delete(
    "/{key_id}",
    authentication="user",
    permission=Permission.KEY_MANAGE,
    body_limit_bytes=0,
    audit_class="change",
    status_code=204,
    problems=(409,),
)
async def revoke_api_key(state: State, principal: CurrentPrincipal, key_id: UUID) -> None:
    """End a key for good, within about a second everywhere."""
    async with state.database.begin(principal.organization_id) as session:
        key = await api_keys.get(session, key_id)
        _require_may_revoke(principal, key)
        await api_keys.revoke(session, key_id)
        await audit.append(session, actor=principal, action="api_key.revoked", subject=f"api_key/{key_id}", details={})
    await state.key_epochs.renew(principal.organization_id)


def _require_may_revoke(principal: Principal, key: StoredKey) -> None:
    if key.is_system:
        raise Conflict("the organization's services need this key", code="system_key")
    if key.created_by != principal.id:
        limited = frozenset(key.dealership_ids) if key.dealership_ids is not None else None
        principal.require_grantable(map(Permission, key.scopes), dealership_ids=limited)


def _read(key: StoredKey) -> ApiKeyRead:
    return ApiKeyRead(
        id=key.id,
        public_id=key.public_id,
        name=key.name,
        mode=key.mode,
        scopes=list(key.scopes),
        purposes=list(key.purposes),
        dealership_ids=list(key.dealership_ids) if key.dealership_ids is not None else None,
        is_system=key.is_system,
        created_by=key.created_by,
        created_at=key.created_at,
        expires_at=key.expires_at,
        revoked_at=key.revoked_at,
    )
