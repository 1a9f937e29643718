"""API keys: located across organizations by public id, and read as the principal they stand for."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid4

from sqlalchemy import func, insert, or_, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from auterity_dagster.errors import NotFound
from auterity_dagster.identity.api_key import KeyMode, digest_of, new_key, new_public_id, system_key_secret
from auterity_dagster.identity.permission import Permission, Role, permissions_of
from auterity_dagster.identity.principal import Principal
from auterity_dagster.storage.repositories.audit import organization_of
from auterity_dagster.storage.tables.identity import ApiKeyRow, MembershipRow, UserRow

FIND_API_KEY = text("SELECT organization_id, key_id, digest FROM find_api_key(:public_id)")
SYSTEM_PURPOSES = ("workflow", "judging")


@dataclass(frozen=True, slots=True)
class LocatedKey:
    """Whose a key is, and what its digest must be."""

    organization_id: UUID
    key_id: UUID
    digest: bytes


@dataclass(frozen=True, slots=True)
class ActiveKey:
    """What a key may do now, and until when it may do it (None: it does not expire)."""

    principal: Principal
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class SystemKey:
    """An organization's own key for one purpose; `secret` re-makes the key itself."""

    organization_id: UUID
    id: UUID
    public_id: str
    purpose: str

    def secret(self, pepper: bytes) -> str:
        """Return the whole key, as the gateway accepts it."""
        return system_key_secret(pepper, self.id, organization_id=self.organization_id, public_id=self.public_id)


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A key as it is listed: everything but the secret, which nobody has."""

    id: UUID
    public_id: str
    name: str
    mode: str
    scopes: tuple[str, ...]
    purposes: tuple[str, ...]
    dealership_ids: tuple[UUID, ...] | None
    is_system: bool
    created_by: UUID | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


async def locate(session: AsyncSession, *, public_id: str) -> LocatedKey | None:
    """Return whose a key is, across organizations."""
    found = (await session.execute(FIND_API_KEY, {"public_id": public_id})).one_or_none()
    return LocatedKey(found.organization_id, found.key_id, bytes(found.digest)) if found is not None else None


async def find_active(session: AsyncSession, key_id: UUID) -> ActiveKey | None:
    """Return what a key may do now, or None when it is revoked or expired.

    A key never does more than its maker may do at this moment, and stops with them.
    """
    found = (
        await session.execute(
            select(ApiKeyRow, UserRow.is_active, MembershipRow)
            .outerjoin(
                UserRow, (UserRow.organization_id == ApiKeyRow.organization_id) & (UserRow.id == ApiKeyRow.created_by)
            )
            .outerjoin(
                MembershipRow,
                (MembershipRow.organization_id == ApiKeyRow.organization_id) & (MembershipRow.user_id == UserRow.id),
            )
            .where(
                ApiKeyRow.id == key_id,
                ApiKeyRow.revoked_at.is_(None),
                or_(ApiKeyRow.expires_at.is_(None), ApiKeyRow.expires_at > func.now()),
            )
        )
    ).one_or_none()
    if found is None or (found[0].created_by is not None and not found[1]):
        return None
    return ActiveKey(_principal(found[0], found[2]), found[0].expires_at)


def system_key(session: Session, *, purpose: str) -> SystemKey:
    """Return the organization's own key for a purpose (`workflow`, `judging`). Raises `NotFound`."""
    row = session.scalars(
        select(ApiKeyRow).where(ApiKeyRow.is_system, ApiKeyRow.purposes == [purpose], ApiKeyRow.revoked_at.is_(None))
    ).one_or_none()
    if row is None:
        raise NotFound(f"the organization has no system key for {purpose}")
    return SystemKey(row.organization_id, row.id, row.public_id, purpose)


def add_system_key(session: Session, *, pepper: bytes, purpose: str) -> SystemKey:
    """Make the organization's own key for a purpose: it may call the gateway, and nothing else."""
    key = SystemKey(organization_of(session), uuid4(), new_public_id(), purpose)
    session.execute(
        insert(ApiKeyRow).values(
            organization_id=key.organization_id,
            id=key.id,
            public_id=key.public_id,
            name=f"system: {purpose}",
            mode="live",
            digest=digest_of(pepper, key.secret(pepper)),
            scopes=[Permission.GATEWAY_CALL.value],
            purposes=[purpose],
            is_system=True,
        )
    )
    return key


async def add(
    session: AsyncSession,
    *,
    pepper: bytes,
    name: str,
    mode: KeyMode,
    scopes: Iterable[Permission],
    purposes: Iterable[str],
    dealership_ids: frozenset[UUID] | None,
    expires_at: datetime | None,
    created_by: UUID,
) -> tuple[UUID, str]:
    """Make a key and return its id and, for the only time, the key itself."""
    key_id, public_id = uuid4(), new_public_id()
    key = new_key(mode, public_id=public_id)
    await session.execute(
        insert(ApiKeyRow).values(
            organization_id=organization_of(session.sync_session),
            id=key_id,
            public_id=public_id,
            name=name,
            mode=mode,
            digest=digest_of(pepper, key),
            scopes=sorted(scope.value for scope in scopes),
            purposes=sorted(purposes),
            dealership_ids=sorted(dealership_ids) if dealership_ids is not None else None,
            is_system=False,
            created_by=created_by,
            expires_at=expires_at,
        )
    )
    return key_id, key


async def every(session: AsyncSession) -> Sequence[StoredKey]:
    """Return all keys, newest first."""
    query = select(ApiKeyRow).order_by(ApiKeyRow.created_at.desc(), ApiKeyRow.id)
    return [_stored(row) for row in await session.scalars(query)]


async def get(session: AsyncSession, key_id: UUID) -> StoredKey:
    """Return one key. Raises `NotFound`, also for a foreign one."""
    row = (await session.scalars(select(ApiKeyRow).where(ApiKeyRow.id == key_id))).one_or_none()
    if row is None:
        raise NotFound("there is no such API key")
    return _stored(row)


async def revoke(session: AsyncSession, key_id: UUID) -> None:
    """End a key for good; ending it again changes nothing."""
    await session.execute(
        update(ApiKeyRow).where(ApiKeyRow.id == key_id, ApiKeyRow.revoked_at.is_(None)).values(revoked_at=func.now())
    )


async def revoke_of_maker(session: AsyncSession, user_id: UUID) -> None:
    """End every key that a user made."""
    await session.execute(
        update(ApiKeyRow)
        .where(ApiKeyRow.created_by == user_id, ApiKeyRow.revoked_at.is_(None))
        .values(revoked_at=func.now())
    )


def _principal(key: ApiKeyRow, maker: MembershipRow | None) -> Principal:
    permissions = frozenset(map(Permission, key.scopes))
    dealership_ids = frozenset(key.dealership_ids) if key.dealership_ids is not None else None
    if maker is not None:
        permissions &= permissions_of(map(Role, maker.roles))
        if maker.dealership_ids is not None:
            allowed = frozenset(maker.dealership_ids)
            dealership_ids = allowed if dealership_ids is None else dealership_ids & allowed
    return Principal(
        kind="api_key",
        id=key.id,
        organization_id=key.organization_id,
        roles=frozenset(),
        permissions=permissions,
        dealership_ids=dealership_ids,
        purposes=frozenset(key.purposes),
        user_id=key.created_by,
    )


def _stored(row: ApiKeyRow) -> StoredKey:
    return StoredKey(
        id=row.id,
        public_id=row.public_id,
        name=row.name,
        mode=row.mode,
        scopes=tuple(row.scopes),
        purposes=tuple(row.purposes),
        dealership_ids=tuple(row.dealership_ids) if row.dealership_ids is not None else None,
        is_system=row.is_system,
        created_by=row.created_by,
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
    )
