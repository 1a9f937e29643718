"""The caller's organization and its dealerships."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, ConfigDict, StringConstraints

from auterity_dagster.errors import NotFound, NotPermitted
from auterity_dagster.identity.permission import Permission
from auterity_dagster.serving.api.state import State
from auterity_dagster.serving.authentication import CurrentPrincipal
from auterity_dagster.serving.declared_router import DeclaredRouter
from auterity_dagster.storage.repositories import audit, organizations
from auterity_dagster.storage.repositories.organizations import Dealership, DealershipDetails

router = DeclaredRouter(tags=["organization"])
BODY_LIMIT_BYTES = 8192
Line = Annotated[str, StringConstraints(max_length=120, strip_whitespace=True)]


class OrganizationRead(BaseModel):
    """The customer company that the caller belongs to."""

    id: UUID
    name: str


class DealershipWrite(BaseModel):
    """A store: its time zone is an IANA name, its country two letters."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, StringConstraints(min_length=1, max_length=120, strip_whitespace=True)]
    time_zone: Annotated[str, StringConstraints(max_length=64)]
    street: Line = ""
    city: Line = ""
    region: Line = ""
    postal_code: Annotated[str, StringConstraints(max_length=16)] = ""
    country: Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}$")] = "US"

    def details(self) -> DealershipDetails:
        """Return it as the repository takes it."""
        return DealershipDetails(**self.model_dump())


class DealershipRead(BaseModel):
    """A store as stored."""

    id: UUID
    name: str
    time_zone: str
    street: str
    city: str
    region: str
    postal_code: str
    country: str
    created_at: datetime


@router.get(
    "/organization",
    authentication="user_or_api_key",
    permission="signed_in",
    body_limit_bytes=0,
    audit_class="none",
)
async def read_organization(state: State, principal: CurrentPrincipal) -> OrganizationRead:
    """Return the caller's organization."""
    async with state.database.begin(principal.organization_id) as session:
        name = await organizations.organization_name(session)
    return OrganizationRead(id=principal.organization_id, name=name)


@router.get(
    "/dealerships", authentication="user_or_api_key", permission="signed_in", body_limit_bytes=0, audit_class="none"
)
async def list_dealerships(state: State, principal: CurrentPrincipal) -> list[DealershipRead]:
    """Return the dealerships that the caller may see, by name."""
    async with state.database.begin(principal.organization_id) as session:
        found = await organizations.dealerships(session)
    return [_read(dealership) for dealership in found if principal.may_see(dealership.id)]


@router.get(
    "/dealerships/{dealership_id}",
    authentication="user_or_api_key",
    permission="signed_in",
    body_limit_bytes=0,
    audit_class="none",
)
async def read_dealership(state: State, principal: CurrentPrincipal, dealership_id: UUID) -> DealershipRead:
    """Return one dealership."""
    if not principal.may_see(dealership_id):
        raise NotFound("there is no such dealership")
    async with state.database.begin(principal.organization_id) as session:
        return _read(await organizations.get_dealership(session, dealership_id))


@router.post(
    "/dealerships",
    authentication="user",
    permission=Permission.DEALERSHIP_MANAGE,
    body_limit_bytes=BODY_LIMIT_BYTES,
    audit_class="change",
    status_code=201,
    problems=(409,),
)
async def add_dealership(state: State, principal: CurrentPrincipal, write: DealershipWrite) -> DealershipRead:
    """Add a dealership; whoever is limited to some of them cannot add another."""
    if principal.dealership_ids is not None:
        raise NotPermitted("this needs access to every dealership")
    async with state.database.begin(principal.organization_id) as session:
        dealership_id = await organizations.add_dealership(session, write.details())
        added = await organizations.get_dealership(session, dealership_id)
        subject = f"dealership/{dealership_id}"
        await audit.append(session, actor=principal, action="dealership.added", subject=subject, details={})
    return _read(added)


@router.put(
    "/dealerships/{dealership_id}",
    authentication="user",
    permission=Permission.DEALERSHIP_MANAGE,
    body_limit_bytes=BODY_LIMIT_BYTES,
    audit_class="change",
    problems=(409,),
)
async def change_dealership(
    state: State, principal: CurrentPrincipal, dealership_id: UUID, write: DealershipWrite
) -> DealershipRead:
    """Replace a dealership's name, time zone and address."""
    if not principal.may_see(dealership_id):
        raise NotFound("there is no such dealership")
    async with state.database.begin(principal.organization_id) as session:
        await organizations.change_dealership(session, dealership_id, write.details())
        changed = await organizations.get_dealership(session, dealership_id)
        subject = f"dealership/{dealership_id}"
        await audit.append(session, actor=principal, action="dealership.changed", subject=subject, details={})
    return _read(changed)


def _read(dealership: Dealership) -> DealershipRead:
    details = dealership.details
    return DealershipRead(
        id=dealership.id,
        name=details.name,
        time_zone=details.time_zone,
        street=details.street,
        city=details.city,
        region=details.region,
        postal_code=details.postal_code,
        country=details.country,
        created_at=dealership.created_at,
    )
