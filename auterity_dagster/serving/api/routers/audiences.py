"""What a dealership hands in for its audiences: services due, and its customers' vehicles."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, model_validator
from sqlalchemy.ext.asyncio import AsyncSession

from auterity_dagster.errors import NotFound
from auterity_dagster.identity.permission import Permission
from auterity_dagster.identity.principal import Principal
from auterity_dagster.serving.api.state import State
from auterity_dagster.serving.authentication import CurrentPrincipal
from auterity_dagster.serving.declared_router import DeclaredRouter
from auterity_dagster.storage.repositories import audience_rows
from auterity_dagster.storage.repositories.audience_rows import CustomerVehicle, ServiceDue
from auterity_dagster.storage.repositories.organizations import require_dealerships

router = DeclaredRouter(tags=["executions"])
ROWS_LIMIT = 1000
Line = Annotated[str, StringConstraints(min_length=1, max_length=200, strip_whitespace=True)]
PUT: dict[str, Any] = {
    "authentication": "user_or_api_key",
    "permission": Permission.INGEST_WRITE,
    "body_limit_bytes": 2 * 1024 * 1024,
    "audit_class": "none",
    "problems": (404,),
}


class _Row(BaseModel):
    """A customer as the dealership knows them: its own key, a name, and one address."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    external_key: Line
    customer_name: Line
    channel: Literal["sms", "email"]
    address: Line

    @model_validator(mode="after")
    def _address_fits_the_channel(self) -> "_Row":
        is_number = self.address.startswith("+") and self.address[1:].isdecimal()
        if is_number != (self.channel == "sms") or (self.channel == "email" and self.address.count("@") != 1):
            raise ValueError("a text needs a number such as +13125550141, an e-mail an address")
        return self


class ServiceDueWrite(_Row):
    """A customer's vehicle with a service due."""

    vehicle: Line
    service: Line
    times: Annotated[tuple[Line, ...], Field(min_length=1, max_length=4)]
    due_at: AwareDatetime


class CustomerVehicleWrite(_Row):
    """A vehicle that a customer owns; with its VIN a recall is found for certain."""

    vin: Annotated[str, StringConstraints(pattern=r"^[A-HJ-NPR-Za-hj-npr-z0-9]{17}$")] | None = None
    make: Line
    vehicle_model: Line
    year: Annotated[int, Field(ge=1900, le=2100)]


class _List(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    dealership_id: UUID


class ServiceDueList(_List):
    """Rows of one dealership."""

    rows: Annotated[tuple[ServiceDueWrite, ...], Field(min_length=1, max_length=ROWS_LIMIT)]


class CustomerVehicleList(_List):
    """Rows of one dealership."""

    rows: Annotated[tuple[CustomerVehicleWrite, ...], Field(min_length=1, max_length=ROWS_LIMIT)]


@router.put("/audiences/service-due", **PUT)
async def put_service_due(state: State, principal: CurrentPrincipal, body: ServiceDueList) -> dict[str, int]:
    """Hand in vehicles with a service due: the audience `vehicles_due_for_service`."""
    rows = [ServiceDue(**row.model_dump()) for row in body.rows]
    async with _handing_in(state, principal, body.dealership_id) as session:
        count = await audience_rows.put_service_due(session, body.dealership_id, rows, now=state.clock.now())
    return {"rows": count}


@router.put("/audiences/customer-vehicles", **PUT)
async def put_customer_vehicles(state: State, principal: CurrentPrincipal, body: CustomerVehicleList) -> dict[str, int]:
    """Hand in the vehicles that customers own: with the table of recalls, `vehicles_with_open_recalls`."""
    rows = [CustomerVehicle(**row.model_dump()) for row in body.rows]
    async with _handing_in(state, principal, body.dealership_id) as session:
        count = await audience_rows.put_customer_vehicles(session, body.dealership_id, rows, now=state.clock.now())
    return {"rows": count}


@asynccontextmanager
async def _handing_in(state: State, principal: Principal, dealership_id: UUID) -> AsyncGenerator[AsyncSession]:
    """One transaction for a dealership that exists and that the caller may see; else `NotFound`."""
    if not principal.may_see(dealership_id):
        raise NotFound("there is no such dealership")
    async with state.database.begin(principal.organization_id) as session:
        await require_dealerships(session, frozenset({dealership_id}))
        yield session
