"""Users with their memberships: found for signing in, made, listed and changed."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid4

from sqlalchemy import insert, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from auterity_dagster.errors import Conflict, NotFound
from auterity_dagster.identity.permission import Role
from auterity_dagster.identity.principal import Principal, user_principal
from auterity_dagster.storage.repositories.audit import organization_of
from auterity_dagster.storage.tables.identity import MembershipRow, OrganizationRow, UserRow

FIND_USER = text("SELECT organization_id, user_id FROM find_user(:email)")


@dataclass(frozen=True, slots=True)
class LocatedUser:
    """Whose an e-mail address is."""

    organization_id: UUID
    user_id: UUID


@dataclass(frozen=True, slots=True)
class StoredUser:
    """A user as stored; `principal` is what they may do now."""

    email: str
    name: str
    password_hash: str
    session_epoch: int
    is_active: bool
    created_at: datetime
    principal: Principal


async def locate(session: AsyncSession, *, email: str) -> LocatedUser | None:
    """Return whose this address is, across organizations."""
    found = (await session.execute(FIND_USER, {"email": email})).one_or_none()
    return LocatedUser(found.organization_id, found.user_id) if found is not None else None


async def find_active(session: AsyncSession, user_id: UUID) -> StoredUser | None:
    """Return a user who may sign in, or None."""
    users = await _load(session, UserRow.id == user_id, UserRow.is_active)
    return users[0] if users else None


async def get(session: AsyncSession, user_id: UUID) -> StoredUser:
    """Return a user. Raises `NotFound`, also for a foreign one."""
    users = await _load(session, UserRow.id == user_id)
    if not users:
        raise NotFound("there is no such user")
    return users[0]


async def every(session: AsyncSession) -> Sequence[StoredUser]:
    """Return all users by name."""
    return await _load(session)


def add_blocking(
    session: Session,
    *,
    email: str,
    name: str,
    password_hash: str,
    roles: Iterable[Role],
    dealership_ids: frozenset[UUID] | None,
) -> UUID:
    """Make a user of the session's organization and return their id. Raises `Conflict` when the address is taken."""
    user_id, organization_id = uuid4(), organization_of(session)
    try:
        session.execute(
            insert(UserRow).values(
                organization_id=organization_id,
                id=user_id,
                email=email.lower(),
                name=name,
                password_hash=password_hash,
                session_epoch=0,
                is_active=True,
            )
        )
    except IntegrityError as error:
        raise Conflict("this e-mail address cannot be used", code="email_taken", field="email") from error
    session.execute(
        insert(MembershipRow).values(
            organization_id=organization_id,
            user_id=user_id,
            roles=_texts(roles),
            dealership_ids=sorted(dealership_ids) if dealership_ids is not None else None,
        )
    )
    return user_id


async def add(
    session: AsyncSession,
    *,
    email: str,
    name: str,
    password_hash: str,
    roles: Iterable[Role],
    dealership_ids: frozenset[UUID] | None,
) -> UUID:
    """The same for async code."""
    return await session.run_sync(
        add_blocking,
        email=email,
        name=name,
        password_hash=password_hash,
        roles=roles,
        dealership_ids=dealership_ids,
    )


async def change(
    session: AsyncSession,
    user_id: UUID,
    *,
    roles: Iterable[Role],
    dealership_ids: frozenset[UUID] | None,
    is_active: bool | None,
) -> None:
    """Give a user these roles; `is_active` None leaves that as it is. Who is switched off loses every session."""
    await session.execute(
        update(MembershipRow)
        .where(MembershipRow.user_id == user_id)
        .values(roles=_texts(roles), dealership_ids=sorted(dealership_ids) if dealership_ids is not None else None)
    )
    if is_active is not None:
        await session.execute(update(UserRow).where(UserRow.id == user_id).values(is_active=is_active))
    if is_active is False:
        await end_sessions(session, user_id)


async def lock_roles(session: AsyncSession) -> None:
    """Let one transaction at a time change the organization's roles: two owners could otherwise remove each other."""
    await session.execute(select(OrganizationRow.id).with_for_update())


async def require_an_owner(session: AsyncSession) -> None:
    """Raise `Conflict` when nobody is left who owns the organization."""
    owner = (
        select(MembershipRow.user_id)
        .join(
            UserRow,
            (UserRow.organization_id == MembershipRow.organization_id) & (UserRow.id == MembershipRow.user_id),
        )
        .where(UserRow.is_active, MembershipRow.roles.contains([Role.OWNER.value]))
        .limit(1)
    )
    if await session.scalar(owner) is None:
        raise Conflict("an organization keeps at least one owner", code="last_owner")


async def end_sessions(session: AsyncSession, user_id: UUID) -> None:
    """End every session of a user by raising the epoch."""
    await session.execute(update(UserRow).where(UserRow.id == user_id).values(session_epoch=UserRow.session_epoch + 1))


async def change_password_hash(session: AsyncSession, user_id: UUID, *, password_hash: str) -> None:
    """Store the same password under newer parameters."""
    await session.execute(update(UserRow).where(UserRow.id == user_id).values(password_hash=password_hash))


def _texts(roles: Iterable[Role]) -> list[str]:
    return sorted(role.value for role in roles)


async def _load(session: AsyncSession, *conditions: object) -> Sequence[StoredUser]:
    query = (
        select(UserRow, MembershipRow)
        .join(
            MembershipRow,
            (MembershipRow.organization_id == UserRow.organization_id) & (MembershipRow.user_id == UserRow.id),
        )
        .where(*conditions)  # pyright: ignore[reportArgumentType]
        .order_by(UserRow.name, UserRow.id)
    )
    return [_stored(user, membership) for user, membership in await session.execute(query)]


def _stored(user: UserRow, membership: MembershipRow) -> StoredUser:
    return StoredUser(
        email=user.email,
        name=user.name,
        password_hash=user.password_hash,
        session_epoch=user.session_epoch,
        is_active=user.is_active,
        created_at=user.created_at,
        principal=user_principal(
            user.id,
            organization_id=user.organization_id,
            roles=map(Role, membership.roles),
            dealership_ids=frozenset(membership.dealership_ids) if membership.dealership_ids is not None else None,
        ),
    )
