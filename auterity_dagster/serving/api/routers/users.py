"""The people of an organization and what they are in it; nobody gives more than they have."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints

from auterity_dagster.errors import Conflict
from auterity_dagster.identity.password import LONGEST, require_acceptable
from auterity_dagster.identity.permission import Permission, Role
from auterity_dagster.serving.api.state import State
from auterity_dagster.serving.authentication import CurrentPrincipal
from auterity_dagster.serving.declared_router import DeclaredRouter
from auterity_dagster.storage.repositories import api_keys, audit, organizations, users
from auterity_dagster.storage.repositories.users import StoredUser

router = DeclaredRouter(prefix="/users", tags=["users"])
BODY_LIMIT_BYTES = 16_384
Roles = Annotated[frozenset[Role], Field(min_length=1)]
Dealerships = Annotated[frozenset[UUID], Field(max_length=200)]


class UserAdd(BaseModel):
    """A new user with a first password; `dealership_ids` null means every dealership."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    email: Annotated[str, StringConstraints(max_length=254, pattern=r"^[^@\s]+@[^@\s]+$")]
    name: Annotated[str, StringConstraints(min_length=1, max_length=120, strip_whitespace=True)]
    password: SecretStr = Field(max_length=LONGEST)
    roles: Roles
    dealership_ids: Dealerships | None = None


class UserChange(BaseModel):
    """What changes; what is left out stays."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    roles: Roles | None = None
    dealership_ids: Dealerships | None = None
    is_active: bool | None = None


class UserRead(BaseModel):
    """A user as others of the organization see them."""

    id: UUID
    email: str
    name: str
    roles: list[Role]
    dealership_ids: list[UUID] | None
    is_active: bool
    created_at: datetime


@router.get("", authentication="user", permission=Permission.USER_MANAGE, body_limit_bytes=0, audit_class="none")
async def list_users(state: State, principal: CurrentPrincipal) -> list[UserRead]:
    """Return the organization's users by name."""
    async with state.database.begin(principal.organization_id) as session:
        return [_read(user) for user in await users.every(session)]


@router.post(
    "",
    authentication="user",
    permission=Permission.USER_MANAGE,
    body_limit_bytes=BODY_LIMIT_BYTES,
    audit_class="change",
    status_code=201,
    problems=(404, 409),
)
async def add_user(state: State, principal: CurrentPrincipal, write: UserAdd) -> UserRead:
    """Add a user with roles that the caller has the permissions of."""
    principal.require_roles_grantable(write.roles, dealership_ids=write.dealership_ids)
    password = write.password.get_secret_value()
    require_acceptable(password, email=write.email)
    password_hash = await state.passwords.hash(password)
    async with state.database.begin(principal.organization_id) as session:
        await organizations.require_dealerships(session, write.dealership_ids)
        user_id = await users.add(
            session,
            email=write.email,
            name=write.name,
            password_hash=password_hash,
            roles=write.roles,
            dealership_ids=write.dealership_ids,
        )
        user = await users.get(session, user_id)
        details = {"roles": sorted(write.roles), "dealerships": _ids(write.dealership_ids)}
        await audit.append(session, actor=principal, action="user.added", subject=f"user/{user_id}", details=details)
    return _read(user)


@router.patch(
    "/{user_id}",
    authentication="user",
    permission=Permission.USER_MANAGE,
    body_limit_bytes=BODY_LIMIT_BYTES,
    audit_class="change",
    problems=(409,),
)
async def change_user(state: State, principal: CurrentPrincipal, user_id: UUID, write: UserChange) -> UserRead:
    """Change a user's roles or dealerships, or switch them off, which ends their sessions and their API keys."""
    if user_id == principal.id:
        raise Conflict("nobody changes their own roles", code="own_roles")
    async with state.database.begin(principal.organization_id) as session:
        await users.lock_roles(session)
        before = (await users.get(session, user_id)).principal
        principal.require_roles_grantable(before.roles, dealership_ids=before.dealership_ids)
        roles = write.roles if write.roles is not None else before.roles
        limited = write.dealership_ids if "dealership_ids" in write.model_fields_set else before.dealership_ids
        principal.require_roles_grantable(roles, dealership_ids=limited)
        await organizations.require_dealerships(session, limited)
        await users.change(session, user_id, roles=roles, dealership_ids=limited, is_active=write.is_active)
        if write.is_active is False:
            await api_keys.revoke_of_maker(session, user_id)
        await users.require_an_owner(session)
        after = await users.get(session, user_id)
        details = {"roles": sorted(roles), "dealerships": _ids(limited), "active": after.is_active}
        await audit.append(session, actor=principal, action="user.changed", subject=f"user/{user_id}", details=details)
    await state.key_epochs.renew(principal.organization_id)  # a key never does more than its maker may
    return _read(after)


def _ids(dealership_ids: frozenset[UUID] | None) -> list[str] | None:
    return sorted(map(str, dealership_ids)) if dealership_ids is not None else None


def _read(user: StoredUser) -> UserRead:
    principal = user.principal
    return UserRead(
        id=principal.id,
        email=user.email,
        name=user.name,
        roles=sorted(principal.roles),
        dealership_ids=sorted(principal.dealership_ids) if principal.dealership_ids is not None else None,
        is_active=user.is_active,
        created_at=user.created_at,
    )
