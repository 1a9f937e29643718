"""Stock that a feed no longer names and a person has to look at: half of it or more went at once."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from auterity_dagster.errors import NotFound
from auterity_dagster.identity.permission import Permission
from auterity_dagster.serving.api.state import State
from auterity_dagster.serving.authentication import CurrentPrincipal
from auterity_dagster.serving.declared_router import DeclaredRouter
from auterity_dagster.storage.repositories import audit, inventory_absence

router = DeclaredRouter(tags=["ingest"])


class AbsenceRead(BaseModel):
    """Of `listed` vehicles that were on offer, the feed of `fed_at` does not name these."""

    model_config = ConfigDict(from_attributes=True)

    dealership_id: UUID
    listed: int
    gone: list[str]
    fed_at: datetime


class AbsenceDecide(BaseModel):
    """`unlist` if they are really gone, `keep` if the feed was torn."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    decision: Literal["unlist", "keep"]


class AbsenceDecided(BaseModel):
    """How many vehicles were unlisted or kept."""

    vehicles: int


@router.get(
    "/inventory/absences",
    authentication="user",
    permission=Permission.INVENTORY_MANAGE,
    body_limit_bytes=0,
    audit_class="none",
)
async def list_absences(state: State, principal: CurrentPrincipal) -> list[AbsenceRead]:
    """Return what waits for a decision; the vehicles stay on offer meanwhile."""
    async with state.database.begin(principal.organization_id) as session:
        found = await inventory_absence.waiting(session)
    return [AbsenceRead.model_validate(one) for one in found if principal.may_see(one.dealership_id)]


@router.post(
    "/inventory/absences/{dealership_id}/decide",
    authentication="user",
    permission=Permission.INVENTORY_MANAGE,
    body_limit_bytes=1024,
    audit_class="change",
    problems=(404,),
)
async def decide_absence(
    dealership_id: UUID, write: AbsenceDecide, state: State, principal: CurrentPrincipal
) -> AbsenceDecided:
    """Unlist the vehicles that the feed did not name, or keep them; the next whole feed is compared anew."""
    if not principal.may_see(dealership_id):
        raise NotFound("there is no such dealership")
    async with state.database.begin(principal.organization_id) as session:
        count = await inventory_absence.decide(session, dealership_id, is_gone=write.decision == "unlist")
        await audit.append(
            session,
            actor=principal,
            action="inventory.absence_decided",
            subject=f"dealerships/{dealership_id}",
            details={"decision": write.decision, "vehicles": count},
        )
    return AbsenceDecided(vehicles=count)
