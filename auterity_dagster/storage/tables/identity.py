"""Tables of identity: organizations with their dealerships and users, credentials as digests, and the audit log."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Text, Uuid, func
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from auterity_dagster.storage.tables.base import Base


class OrganizationRow(Base):
    """A customer company: the boundary that row security holds."""

    __tablename__ = "organization"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class DealershipRow(Base):
    """One store of an organization."""

    __tablename__ = "dealership"

    organization_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str]
    time_zone: Mapped[str]
    street: Mapped[str]
    city: Mapped[str]
    region: Mapped[str]
    postal_code: Mapped[str]
    country: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class UserRow(Base):
    """A person; raising `session_epoch` ends every session of theirs."""

    __tablename__ = "user_account"

    organization_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    email: Mapped[str]
    name: Mapped[str]
    password_hash: Mapped[str]
    session_epoch: Mapped[int]
    is_active: Mapped[bool]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class MembershipRow(Base):
    """What a user is in the organization; `dealership_ids` None means all of them."""

    __tablename__ = "membership"

    organization_id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[UUID] = mapped_column(primary_key=True)
    roles: Mapped[list[str]] = mapped_column(ARRAY(Text))
    dealership_ids: Mapped[list[UUID] | None] = mapped_column(ARRAY(Uuid(as_uuid=True)))


class RefreshTokenRow(Base):
    """One refresh token as its digest; a family is one sign-in and all its successors."""

    __tablename__ = "refresh_token"

    organization_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[UUID]
    family_id: Mapped[UUID]
    token_digest: Mapped[bytes]
    session_epoch: Mapped[int]
    issued_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime]
    family_expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class ApiKeyRow(Base):
    """An API key as its digest; a system key belongs to the organization's own services and has no maker."""

    __tablename__ = "api_key"

    organization_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    public_id: Mapped[str]
    name: Mapped[str]
    mode: Mapped[str]
    digest: Mapped[bytes]
    scopes: Mapped[list[str]] = mapped_column(ARRAY(Text))
    purposes: Mapped[list[str]] = mapped_column(ARRAY(Text))
    dealership_ids: Mapped[list[UUID] | None] = mapped_column(ARRAY(Uuid(as_uuid=True)))
    is_system: Mapped[bool]
    created_by: Mapped[UUID | None]
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class SignInFailureRow(Base):
    """How often signing in with an address failed; known and unknown addresses alike, as keyed digests."""

    __tablename__ = "sign_in_failure"

    address_digest: Mapped[bytes] = mapped_column(primary_key=True)
    failures: Mapped[int]
    last_failed_at: Mapped[datetime]
    blocked_until: Mapped[datetime]


class AuditEntryRow(Base):
    """One entry of an organization's chain; the application role may only insert and read."""

    __tablename__ = "audit_entry"

    organization_id: Mapped[UUID] = mapped_column(primary_key=True)
    sequence: Mapped[int] = mapped_column(primary_key=True)
    recorded_at: Mapped[datetime]
    actor_kind: Mapped[str]
    actor_id: Mapped[UUID | None]
    action: Mapped[str]
    subject: Mapped[str]
    details: Mapped[dict[str, Any]]
    previous_hash: Mapped[bytes]
    entry_hash: Mapped[bytes]
