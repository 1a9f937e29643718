"""What models may learn from: consents to training, and the versions of each scope's dataset."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.ext.asyncio import AsyncSession

from auterity_dagster.errors import Conflict
from auterity_dagster.identity.permission import Permission
from auterity_dagster.identity.principal import Principal
from auterity_dagster.serving.api.routers.serving_scopes import Limit, Scope
from auterity_dagster.serving.api.state import State
from auterity_dagster.serving.api.whole_organization import require_whole_organization
from auterity_dagster.serving.authentication import CurrentPrincipal
from auterity_dagster.serving.declared_router import DeclaredRouter
from auterity_dagster.storage.repositories import audit, consents, dataset_versions, retrain_requests
from auterity_dagster.storage.repositories.organizations import dealerships
from auterity_dagster.storage.tables.datasets import ConsentRow

router = DeclaredRouter(prefix="/neuroweaver", tags=["NeuroWeaver"])
BODY_LIMIT_BYTES = 4096


class ConsentWrite(BaseModel):
    """An agreement that conversations may train the organization's own models; no dealership: all of them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    text_version: str = Field(min_length=1, max_length=64)
    dealership_id: UUID | None = None


class ConsentRead(BaseModel):
    """Who agreed to which text and when, and who revoked it."""

    id: UUID
    dealership_id: UUID | None
    text_version: str
    given_by: UUID
    given_at: datetime
    revoked_by: UUID | None
    revoked_at: datetime | None


class DatasetVersionRead(BaseModel):
    """One version of a dataset: its card, the consents that it rests on, its drift against the version before."""

    version: int
    dataset_digest: str
    rows: int
    card: dict[str, Any]
    consent_ids: list[Any]
    drift: dict[str, Any] | None
    report_digest: str
    created_at: datetime


@router.get(
    "/consents", authentication="user", permission=Permission.MODEL_READ, body_limit_bytes=0, audit_class="none"
)
async def list_consents(state: State, principal: CurrentPrincipal) -> list[ConsentRead]:
    """Return every consent that was ever given, newest first."""
    require_whole_organization(principal)
    async with state.database.begin(principal.organization_id) as session:
        return [_read(row) for row in await consents.list_consents(session)]


@router.post(
    "/consents",
    authentication="user",
    permission=Permission.ORGANIZATION_MANAGE,
    body_limit_bytes=BODY_LIMIT_BYTES,
    audit_class="change",
    status_code=201,
    problems=(409,),
)
async def give_consent(state: State, principal: CurrentPrincipal, write: ConsentWrite) -> ConsentRead:
    """Agree for the organization, or for one of its dealerships."""
    require_whole_organization(principal)
    async with state.database.begin(principal.organization_id) as session:
        if write.dealership_id is not None:
            known = {one.id for one in await dealerships(session)}
            if write.dealership_id not in known:
                raise Conflict("The organization has no such dealership.", field="dealership_id")
        row = await consents.give_consent(
            session,
            organization_id=principal.organization_id,
            dealership_id=write.dealership_id,
            text_version=write.text_version,
            given_by=principal.id,
            now=state.clock.now(),
        )
        await _audit(session, principal, "consent.given", row)
        return _read(row)


@router.post(
    "/consents/{consent_id}:revoke",
    authentication="user",
    permission=Permission.ORGANIZATION_MANAGE,
    body_limit_bytes=0,
    audit_class="change",
    problems=(404, 409),
)
async def revoke_consent(state: State, principal: CurrentPrincipal, consent_id: UUID) -> ConsentRead:
    """Revoke a consent: its rows leave the next version, and a request to train names the models that saw them."""
    require_whole_organization(principal)
    async with state.database.begin(principal.organization_id) as session:
        row = await consents.revoke_consent(session, consent_id, by=principal.id, now=state.clock.now())
        await session.run_sync(retrain_requests.request_without, row.organization_id, consent_id, now=state.clock.now())
        await _audit(session, principal, "consent.revoked", row)
        return _read(row)


@router.get(
    "/scopes/{scope}/datasets",
    authentication="user_or_api_key",
    permission=Permission.MODEL_READ,
    body_limit_bytes=0,
    audit_class="none",
)
async def list_datasets(
    state: State,
    principal: CurrentPrincipal,
    scope: Scope,
    before: Annotated[int | None, Query(ge=1, le=2**53)] = None,
    limit: Limit = 50,
) -> list[DatasetVersionRead]:
    """Return a scope's dataset versions, newest first; `before` is the `version` that ended the page before."""
    require_whole_organization(principal)
    async with state.database.begin(principal.organization_id) as session:
        rows = await dataset_versions.dataset_versions(session, scope, below=before, limit=limit)
        return [DatasetVersionRead.model_validate(row, from_attributes=True) for row in rows]


async def _audit(session: AsyncSession, principal: Principal, action: str, row: ConsentRow) -> None:
    details = {"text_version": row.text_version, "dealership_id": str(row.dealership_id or "")}
    await audit.append(session, actor=principal, action=action, subject=f"consent/{row.id}", details=details)


def _read(row: ConsentRow) -> ConsentRead:
    return ConsentRead.model_validate(row, from_attributes=True)
