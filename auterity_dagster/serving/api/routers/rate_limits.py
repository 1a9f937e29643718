"""Rate limits: what the organization, its dealerships and its API keys may use a minute; none until one is set."""

from typing import Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, model_validator

from auterity_dagster.identity.permission import Permission
from auterity_dagster.relaycore.rate_limit import LARGEST_LIMIT, RateLimit
from auterity_dagster.serving.api.state import State
from auterity_dagster.serving.api.whole_organization import require_whole_organization
from auterity_dagster.serving.authentication import CurrentPrincipal
from auterity_dagster.serving.declared_router import DeclaredRouter
from auterity_dagster.storage.repositories import audit, rate_limits

router = DeclaredRouter(prefix="/rate-limits", tags=["rate limits"])
BODY_LIMIT_BYTES = 4096
Scope = Literal["organization", "dealership", "key"]


class RateLimitWrite(BaseModel):
    """A minute's allowance; what is left out is not limited."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    requests_per_minute: int | None = Field(default=None, ge=1, le=LARGEST_LIMIT)
    tokens_per_minute: int | None = Field(default=None, ge=1, le=LARGEST_LIMIT)

    @model_validator(mode="after")
    def _limits_something(self) -> "RateLimitWrite":
        if self.requests_per_minute is None and self.tokens_per_minute is None:
            raise ValueError("a rate limit limits requests or tokens")
        return self


class RateLimitRead(BaseModel):
    """A limit as stored; the strictest of all that apply to a call counts."""

    scope: Scope
    subject_id: UUID
    requests_per_minute: int | None
    tokens_per_minute: int | None


@router.get("", authentication="user", permission=Permission.BUDGET_READ, body_limit_bytes=0, audit_class="none")
async def list_rate_limits(state: State, principal: CurrentPrincipal) -> list[RateLimitRead]:
    """Return every limit of the organization."""
    require_whole_organization(principal)
    async with state.database.begin(principal.organization_id) as session:
        return [_read(limit) for limit in await rate_limits.rate_limits(session)]


@router.put(
    "/{scope}/{subject_id}",
    authentication="user",
    permission=Permission.BUDGET_WRITE,
    body_limit_bytes=BODY_LIMIT_BYTES,
    audit_class="change",
)
async def put_rate_limit(
    state: State, principal: CurrentPrincipal, scope: Scope, subject_id: UUID, write: RateLimitWrite
) -> RateLimitRead:
    """Set a limit in place of the one before; gateways follow within two seconds."""
    require_whole_organization(principal)
    limit = RateLimit(scope, subject_id, write.requests_per_minute, write.tokens_per_minute)
    async with state.database.begin(principal.organization_id) as session:
        await rate_limits.put_rate_limit(session, limit)
        subject = f"{scope}/{subject_id}"
        details = write.model_dump()
        await audit.append(session, actor=principal, action="rate_limit.set", subject=subject, details=details)
    return _read(limit)


@router.delete(
    "/{scope}/{subject_id}",
    authentication="user",
    permission=Permission.BUDGET_WRITE,
    body_limit_bytes=0,
    audit_class="change",
    status_code=204,
)
async def remove_rate_limit(state: State, principal: CurrentPrincipal, scope: Scope, subject_id: UUID) -> None:
    """Lift a limit."""
    require_whole_organization(principal)
    async with state.database.begin(principal.organization_id) as session:
        await rate_limits.remove_rate_limit(session, scope=scope, subject_id=subject_id)
        subject = f"{scope}/{subject_id}"
        await audit.append(session, actor=principal, action="rate_limit.lifted", subject=subject, details={})


def _read(limit: RateLimit) -> RateLimitRead:
    return RateLimitRead(
        scope=limit.scope,
        subject_id=limit.subject_id,
        requests_per_minute=limit.requests_per_minute,
        tokens_per_minute=limit.tokens_per_minute,
    )
