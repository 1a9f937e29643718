"""What each scope serves and how that changes: versions side by side, switches, promotion by two people, rollback."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import Path, Query
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.orm import Session

from auterity_dagster.errors import Invalid, NotFound
from auterity_dagster.identity.permission import Permission
from auterity_dagster.identity.principal import Principal
from auterity_dagster.neuroweaver.switching import ServingPhase, ServingState, Switch, rolled_back
from auterity_dagster.serving.api.state import State
from auterity_dagster.serving.api.whole_organization import require_whole_organization
from auterity_dagster.serving.authentication import CurrentPrincipal
from auterity_dagster.serving.declared_router import DeclaredRouter
from auterity_dagster.storage.repositories import audit, promotions, rollout_steps, serving_state
from auterity_dagster.storage.repositories.gate_verdicts import verdict_passes

router = DeclaredRouter(prefix="/neuroweaver/scopes", tags=["NeuroWeaver"])
BODY_LIMIT_BYTES = 4096

Scope = Annotated[str, Path(pattern=r"^(global|[od]-[0-9a-f]{8})$", description="`o-` and 8 digits of an id")]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Reason = Annotated[str, Field(min_length=3, max_length=500)]
Limit = Annotated[int, Query(ge=1, le=200)]


class PromotionWrite(BaseModel):
    """Which artefact gets which share. `expected_digest` is the champion that you saw: if it changed, nothing happens.

    1, 5 and 25 % make it a canary at once. 100 % waits for a second person, save in demo organizations.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    to_digest: Digest
    expected_digest: Digest | None
    weight_percent: int = Field(json_schema_extra={"enum": [1, 5, 25, 100]})
    reason: Reason


class RollbackWrite(BaseModel):
    """Takes the traffic from the challenger, or from the champion where there is none; it never comes back."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    expected_digest: Digest | None
    reason: Reason


class PinWrite(BaseModel):
    """Whether automation keeps away from the scope."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    is_pinned: bool


class ScopeRead(BaseModel):
    """What a scope serves; `current_digest` null is the base route, a challenger at 0 % answers in the shadow."""

    scope: str
    current_digest: str | None
    previous_digest: str | None
    challenger_digest: str | None
    challenger_percent: int
    sequence: int
    pinned_by: str | None
    quarantined: list[str]
    waiting_promotion: UUID | None = None


class VersionRead(BaseModel):
    """One released artefact with what evaluation said of each family, ready to be compared with another."""

    artefact_digest: str
    registered_version: str
    verdict_digest: str
    has_passing_verdict: bool
    may_route: str
    families: list[dict[str, Any]]
    released_at: datetime


class SwitchRead(BaseModel):
    """One line of the ledger: it is written once and never changed."""

    sequence: int
    from_digest: str | None
    to_digest: str | None
    weight_percent: int
    state: str
    reason: str
    evidence_ids: list[Any]
    actor: str
    recorded_at: datetime


@router.get(
    "", authentication="user_or_api_key", permission=Permission.MODEL_READ, body_limit_bytes=0, audit_class="none"
)
async def list_scopes(state: State, principal: CurrentPrincipal) -> list[ScopeRead]:
    """Return every scope that serves or served a model of its own."""
    require_whole_organization(principal)
    async with state.database.begin(principal.organization_id) as session:
        return [_read(one) for one in await session.run_sync(serving_state.scopes)]


@router.get(
    "/{scope}/versions",
    authentication="user_or_api_key",
    permission=Permission.MODEL_READ,
    body_limit_bytes=0,
    audit_class="none",
)
async def list_versions(
    state: State, principal: CurrentPrincipal, scope: Scope, limit: Limit = 50
) -> list[VersionRead]:
    """Return released artefacts, newest first: whatever may be promoted is among them."""
    require_whole_organization(principal)
    async with state.database.begin(principal.organization_id) as session:
        return await session.run_sync(_versions, scope, limit)


@router.get(
    "/{scope}/switches",
    authentication="user_or_api_key",
    permission=Permission.MODEL_READ,
    body_limit_bytes=0,
    audit_class="none",
)
async def list_switches(
    state: State,
    principal: CurrentPrincipal,
    scope: Scope,
    before: Annotated[int | None, Query(ge=1, le=2**53)] = None,
    limit: Limit = 50,
) -> list[SwitchRead]:
    """Return the scope's switches, newest first; `before` is the `sequence` that ended the page before."""
    require_whole_organization(principal)
    async with state.database.begin(principal.organization_id) as session:
        rows = await session.run_sync(serving_state.ledger_rows, scope, below=before, limit=limit)
        return [SwitchRead.model_validate(row, from_attributes=True) for row in rows]


@router.post(
    "/{scope}:promote",
    authentication="user",
    permission=Permission.TRAINING_OPERATE,
    body_limit_bytes=BODY_LIMIT_BYTES,
    audit_class="change",
    problems=(404, 409),
)
async def promote(state: State, principal: CurrentPrincipal, scope: Scope, write: PromotionWrite) -> ScopeRead:
    """Give a released artefact a share of the traffic, or ask a second person to give it all."""
    require_whole_organization(principal)
    async with state.database.begin(principal.organization_id) as session:
        return await session.run_sync(_promote, principal, scope, write, state.clock.now())


@router.post(
    "/{scope}:rollback",
    authentication="user",
    permission=Permission.TRAINING_OPERATE,
    body_limit_bytes=BODY_LIMIT_BYTES,
    audit_class="change",
    problems=(404, 409),
)
async def roll_back(state: State, principal: CurrentPrincipal, scope: Scope, write: RollbackWrite) -> ScopeRead:
    """Take the traffic back; gateways follow within seconds and finish what is under way."""
    require_whole_organization(principal)
    async with state.database.begin(principal.organization_id) as session:
        return await session.run_sync(_roll_back, principal, scope, write)


@router.put(
    "/{scope}/pin",
    authentication="user",
    permission=Permission.TRAINING_OPERATE,
    body_limit_bytes=BODY_LIMIT_BYTES,
    audit_class="change",
    problems=(404,),
)
async def pin(state: State, principal: CurrentPrincipal, scope: Scope, write: PinWrite) -> ScopeRead:
    """Keep automation away from a scope, or let it come back."""
    require_whole_organization(principal)
    async with state.database.begin(principal.organization_id) as session:
        by = str(principal.id) if write.is_pinned else None
        if not await session.run_sync(serving_state.pin, scope, by=by):
            raise NotFound("This scope never served a model of its own.")
        found = await session.run_sync(serving_state.serving_state, scope)
        action = "scope.pinned" if write.is_pinned else "scope.unpinned"
        await audit.append(session, actor=principal, action=action, subject=f"scope/{scope}", details={})
        return _read(found)


def _promote(session: Session, principal: Principal, scope: str, write: PromotionWrite, now: datetime) -> ScopeRead:
    known = serving_state.released(session, scope, write.to_digest)
    if known is None:
        raise NotFound("No such artefact was released in this scope.")
    largest = rollout_steps.ROUTABLE.get(known.may_route, 0)
    if write.weight_percent > largest:
        told = f"the verdict of this artefact allows at most {largest} %"
        raise Invalid(told, field="weight_percent")
    is_whole = write.weight_percent == 100
    phase = ServingPhase.CHAMPION if is_whole else ServingPhase.CANARY
    change = Switch(
        write.expected_digest, write.to_digest, phase, write.weight_percent, write.reason, actor=principal.id
    )
    waiting: UUID | None = None
    if is_whole and known.may_route != rollout_steps.DEMO_ORGANIZATIONS:
        asked = promotions.request_promotion(
            session, organization_id=principal.organization_id, change=change, scope=scope, by=principal.id, now=now
        )
        waiting = asked.id
        action = "promotion.requested"
    else:
        _switch(session, principal, scope, change)
        action = "deployment.promoted"
    found = serving_state.serving_state(session, scope)
    details = {"to_digest": write.to_digest, "weight_percent": write.weight_percent}
    audit.append_blocking(session, actor=principal, action=action, subject=f"scope/{scope}", details=details)
    return _read(found, waiting=waiting)


def _roll_back(session: Session, principal: Principal, scope: str, write: RollbackWrite) -> ScopeRead:
    before = serving_state.serving_state(session, scope)
    if before.sequence == 0:
        raise NotFound("This scope never served a model of its own.")
    seen = ServingState(
        scope,
        write.expected_digest,
        before.previous_digest,
        before.sequence,
        before.pinned_by,
        challenger_digest=before.challenger_digest,
    )
    _switch(session, principal, scope, rolled_back(seen, reason=write.reason, actor=principal.id))
    after = serving_state.serving_state(session, scope)
    details = {"from_digest": before.challenger_digest or before.current_digest, "to_digest": after.current_digest}
    subject = f"scope/{scope}"
    audit.append_blocking(session, actor=principal, action="deployment.rolled_back", subject=subject, details=details)
    return _read(after)


def _switch(session: Session, principal: Principal, scope: str, change: Switch) -> None:
    sequence = serving_state.serving_state(session, scope).sequence
    key = f"{scope}:{sequence}:{principal.id}:{change.phase}:{change.to_digest}:{change.weight_percent}"
    serving_state.switch(session, change, serving_state.Entry(principal.organization_id, scope, [], key))


def _versions(session: Session, scope: str, limit: int) -> list[VersionRead]:
    rows = serving_state.releases(session, scope, limit=limit)
    return [
        VersionRead(
            artefact_digest=row.artefact_digest,
            registered_version=f"{row.registered_name}/{row.registered_version}",
            verdict_digest=row.verdict_digest,
            has_passing_verdict=verdict_passes(session, row.artefact_digest),
            may_route=row.may_route,
            families=list(row.families),
            released_at=row.released_at,
        )
        for row in rows
    ]


def _read(found: ServingState, *, waiting: UUID | None = None) -> ScopeRead:
    quarantined: Sequence[str] = sorted(found.quarantined)
    return ScopeRead(
        scope=found.scope,
        current_digest=found.current_digest,
        previous_digest=found.previous_digest,
        challenger_digest=found.challenger_digest,
        challenger_percent=found.challenger_percent,
        sequence=found.sequence,
        pinned_by=found.pinned_by,
        quarantined=list(quarantined),
        waiting_promotion=waiting,
    )
