"""Organizations and their dealerships; a new organization comes with its owner and its services' keys."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid4
from zoneinfo import available_timezones

from sqlalchemy import func, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from auterity_dagster.clock import Clock
from auterity_dagster.errors import Conflict, Invalid, NotFound
from auterity_dagster.identity.password import hash_password, require_acceptable
from auterity_dagster.identity.permission import Role
from auterity_dagster.storage.database import BlockingDatabase
from auterity_dagster.storage.repositories import api_keys, users
from auterity_dagster.storage.repositories.audit import append_blocking, organization_of
from auterity_dagster.storage.tables.identity import DealershipRow, OrganizationRow


@dataclass(frozen=True, slots=True)
class CreatedOrganization:
    """A new organization and its first user."""

    organization_id: UUID
    owner_id: UUID


@dataclass(frozen=True, slots=True)
class DealershipDetails:
    """What a dealership is called and where it stands; `time_zone` is an IANA name, `country` two capital letters."""

    name: str
    time_zone: str
    street: str = ""
    city: str = ""
    region: str = ""
    postal_code: str = ""
    country: str = "US"


@dataclass(frozen=True, slots=True)
class Dealership:
    """A dealership as stored."""

    id: UUID
    details: DealershipDetails
    created_at: datetime


def create_organization(
    database: BlockingDatabase, *, name: str, owner_email: str, owner_password: str, pepper: bytes, clock: Clock
) -> CreatedOrganization:
    """Make an organization, its owner and its system keys; raises `Invalid` or `Conflict` about address and password"""
    require_acceptable(owner_password, email=owner_email)
    organization_id, password_hash = uuid4(), hash_password(owner_password)
    with database.begin(organization_id) as session:
        session.execute(insert(OrganizationRow).values(id=organization_id, name=name, created_at=clock.now()))
        owner_id = users.add_blocking(
            session,
            email=owner_email,
            name=owner_email.partition("@")[0],
            password_hash=password_hash,
            roles=(Role.OWNER,),
            dealership_ids=None,
        )
        for purpose in api_keys.SYSTEM_PURPOSES:
            api_keys.add_system_key(session, pepper=pepper, purpose=purpose)
        append_blocking(
            session,
            actor=None,
            action="organization.created",
            subject=f"organization/{organization_id}",
            details={"owner": str(owner_id)},
        )
    return CreatedOrganization(organization_id=organization_id, owner_id=owner_id)


async def organization_name(session: AsyncSession) -> str:
    """Return the name of the session's organization."""
    return (await session.scalars(select(OrganizationRow.name))).one()


def add_dealership_blocking(session: Session, details: DealershipDetails) -> UUID:
    """Make a dealership. Raises `Invalid` for an unknown time zone, `Conflict` for a name that is in use."""
    _require_time_zone(details.time_zone)
    dealership_id = uuid4()
    try:
        session.execute(
            insert(DealershipRow).values(
                organization_id=organization_of(session), id=dealership_id, **_columns(details)
            )
        )
    except IntegrityError as error:
        raise _name_taken() from error
    return dealership_id


async def add_dealership(session: AsyncSession, details: DealershipDetails) -> UUID:
    """The same for async code."""
    return await session.run_sync(add_dealership_blocking, details)


async def change_dealership(session: AsyncSession, dealership_id: UUID, details: DealershipDetails) -> None:
    """Replace a dealership's details. Raises `NotFound`, `Invalid` or `Conflict`."""
    _require_time_zone(details.time_zone)
    try:
        changed = await session.scalar(
            update(DealershipRow)
            .where(DealershipRow.id == dealership_id)
            .values(**_columns(details))
            .returning(DealershipRow.id)
        )
    except IntegrityError as error:
        raise _name_taken() from error
    if changed is None:
        raise NotFound("there is no such dealership")


async def dealerships(session: AsyncSession) -> Sequence[Dealership]:
    """Return the organization's dealerships by name."""
    return [_stored(row) for row in await session.scalars(select(DealershipRow).order_by(DealershipRow.name))]


async def get_dealership(session: AsyncSession, dealership_id: UUID) -> Dealership:
    """Return one dealership. Raises `NotFound`, also for a foreign one."""
    row = (await session.scalars(select(DealershipRow).where(DealershipRow.id == dealership_id))).one_or_none()
    if row is None:
        raise NotFound("there is no such dealership")
    return _stored(row)


async def require_dealerships(session: AsyncSession, dealership_ids: frozenset[UUID] | None) -> None:
    """Raise `NotFound` unless each of these is a dealership of the session's organization."""
    if dealership_ids is None:
        return
    count = await session.scalar(
        select(func.count()).select_from(DealershipRow).where(DealershipRow.id.in_(dealership_ids))
    )
    if count != len(dealership_ids):
        raise NotFound("there is no such dealership", field="dealership_ids")


def _columns(details: DealershipDetails) -> dict[str, str]:
    return {
        "name": details.name,
        "time_zone": details.time_zone,
        "street": details.street,
        "city": details.city,
        "region": details.region,
        "postal_code": details.postal_code,
        "country": details.country,
    }


def _stored(row: DealershipRow) -> Dealership:
    details = DealershipDetails(
        name=row.name,
        time_zone=row.time_zone,
        street=row.street,
        city=row.city,
        region=row.region,
        postal_code=row.postal_code,
        country=row.country,
    )
    return Dealership(id=row.id, details=details, created_at=row.created_at)


def _require_time_zone(name: str) -> None:
    if name not in available_timezones():
        raise Invalid("a time zone has an IANA name such as America/Chicago", field="time_zone")


def _name_taken() -> Conflict:
    return Conflict("another dealership has this name", field="name")
