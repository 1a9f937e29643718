"""An organization's own steering policy: versions written, checked, put in force by a second person, taken back."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import Header, Path, Query
from pydantic import BaseModel, ConfigDict, StringConstraints, TypeAdapter

from auterity_dagster.errors import Invalid
from auterity_dagster.identity.permission import Permission
from auterity_dagster.identity.principal import Principal
from auterity_dagster.relaycore.steering_file import policy_digest
from auterity_dagster.serving.api.state import State
from auterity_dagster.serving.api.steering import platform, policy_in_force
from auterity_dagster.serving.api.whole_organization import require_whole_organization
from auterity_dagster.serving.authentication import CurrentPrincipal
from auterity_dagster.serving.declared_router import DeclaredRouter
from auterity_dagster.storage.repositories import audit, steering_policies
from auterity_dagster.storage.repositories.steering_policies import PutInForce, version_of
from auterity_dagster.storage.tables.steering import SteeringPolicyRow

router = DeclaredRouter(tags=["Steering"])
COLLECTION = "/steering-policies"
VERSION = COLLECTION + "/{name}/{version}"
BODY_LIMIT_BYTES = 1_100_000
PLATFORM = "platform"
READ: dict[str, Any] = {
    "authentication": "user_or_api_key",
    "permission": Permission.STEERING_READ,
    "body_limit_bytes": 0,
    "audit_class": "none",
}
CHANGE: dict[str, Any] = {
    "authentication": "user",
    "permission": Permission.STEERING_WRITE,
    "body_limit_bytes": 0,
    "audit_class": "change",
    "problems": (409,),
}
Yaml = Annotated[str, StringConstraints(min_length=1, max_length=1_000_000)]
Number = Annotated[int, Path(ge=1, le=2**31)]
IfMatch = Annotated[str, Header(pattern=r'^"?[0-9a-f]{16}"?$')]
"""The digest of what the caller saw in force."""


class PolicyText(BaseModel):
    """A policy as YAML, to be checked."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    yaml: Yaml


class PolicyAdd(PolicyText):
    """A new version: its name stands in the YAML, its number follows from it."""

    note: Annotated[str, StringConstraints(max_length=500)] = ""


class Finding(BaseModel):
    """One mistake: where it stands, and why it is refused."""

    file: str
    path: str
    reason: str


class ValidationRead(BaseModel):
    """What checking found, and the digest of the text that was checked."""

    is_valid: bool
    digest: str
    findings: list[Finding]


class PolicyVersionRead(BaseModel):
    """One version; its text never changes. `status` is `draft`, `active` or, once it was in force, `archived`."""

    name: str
    version: int
    digest: str
    note: str
    status: str
    created_by: UUID
    created_at: datetime
    activated_by: UUID | None
    activated_at: datetime | None


class PolicyVersionWithText(PolicyVersionRead):
    """The same with its YAML, and what was found out about it: refusals by gateways, replays."""

    yaml: str
    reports: list[Any]


class InForceRead(BaseModel):
    """What steers the organization now; `version` is None for the platform's. `digest` goes into `If-Match`."""

    name: str
    version: int | None
    digest: str
    yaml: str


@router.get(COLLECTION, **READ)
async def list_versions(
    state: State,
    principal: CurrentPrincipal,
    name: str | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> list[PolicyVersionRead]:
    """Return versions, the newest first."""
    async with state.database.begin(principal.organization_id) as session:
        return [_read(row) for row in await steering_policies.versions(session, name=name, limit=limit)]


@router.post(COLLECTION, status_code=201, **CHANGE | {"body_limit_bytes": BODY_LIMIT_BYTES})
async def add_version(state: State, principal: CurrentPrincipal, write: PolicyAdd) -> PolicyVersionRead:
    """Store a draft. It is refused, with every mistake named, unless it could be put in force now."""
    require_whole_organization(principal)
    policy = await (await platform(state, principal.organization_id)).checked(write.yaml, source="yaml")
    async with state.database.begin(principal.organization_id) as session:
        row = await steering_policies.add_version(
            session, principal.organization_id, policy, note=write.note, by=principal.id
        )
        await audit.append(
            session, actor=principal, action="steering.drafted", subject=version_of(row).subject,
            details={"digest": row.digest},
        )  # fmt: skip
        return _read(row)


@router.post(
    COLLECTION + ":validate", **CHANGE | {"body_limit_bytes": BODY_LIMIT_BYTES, "audit_class": "none", "problems": ()}
)
async def validate_text(state: State, principal: CurrentPrincipal, write: PolicyText) -> ValidationRead:
    """Say what is wrong with a policy; nothing is stored."""
    require_whole_organization(principal)
    return await _validated(state, principal, write.yaml, source="yaml")


@router.get(COLLECTION + "/in-force", **READ)
async def read_in_force(state: State, principal: CurrentPrincipal) -> InForceRead:
    """Return what steers the organization: its own active version, or the platform's policy."""
    of_platform = await platform(state, principal.organization_id)
    async with state.database.begin(principal.organization_id) as session:
        policy = await policy_in_force(session, of_platform)
    return InForceRead(name=policy.name, version=policy.version, digest=policy.digest, yaml=policy.text)


@router.get(VERSION, **READ)
async def read_version(state: State, principal: CurrentPrincipal, name: str, version: Number) -> PolicyVersionWithText:
    """Return one version with its text and reports."""
    async with state.database.begin(principal.organization_id) as session:
        return PolicyVersionWithText.model_validate(
            await steering_policies.read_version(session, name, version), from_attributes=True
        )


@router.post(VERSION + ":validate", **CHANGE | {"audit_class": "none", "problems": ()})
async def validate_version(state: State, principal: CurrentPrincipal, name: str, version: Number) -> ValidationRead:
    """Check a version again, against today's prices and the credentials that the platform lends."""
    require_whole_organization(principal)
    async with state.database.begin(principal.organization_id) as session:
        row = await steering_policies.read_version(session, name, version)
    return await _validated(state, principal, row.yaml, source=f"{name}@{version}")


@router.post(VERSION + ":activate", **CHANGE)
async def activate(
    state: State, principal: CurrentPrincipal, name: str, version: Number, if_match: IfMatch
) -> PolicyVersionRead:
    """Put a draft in force; another person than its author does that. `If-Match` names what it replaces."""
    change = _Change("steering.activated", steering_policies.activate)
    return await _put_in_force(state, principal, change, name=name, version=version, if_match=if_match)


@router.post(VERSION + ":rollback", **CHANGE)
async def roll_back(
    state: State, principal: CurrentPrincipal, name: str, version: Number, if_match: IfMatch
) -> PolicyVersionRead:
    """Put a version in force again that was before; one person suffices. `If-Match` names what it replaces."""
    change = _Change("steering.rolled_back", steering_policies.roll_back)
    return await _put_in_force(state, principal, change, name=name, version=version, if_match=if_match)


@router.post(VERSION + ":retire", **CHANGE)
async def retire(
    state: State, principal: CurrentPrincipal, name: str, version: Number, if_match: IfMatch
) -> PolicyVersionRead:
    """Take the version out of force: the platform's policy steers again; one person suffices."""
    require_whole_organization(principal)
    async with state.database.begin(principal.organization_id) as session:
        row = await steering_policies.read_version(session, name, version)
        await steering_policies.retire(session, row, over=if_match.strip('"'))
        await audit.append(
            session, actor=principal, action="steering.retired", subject=version_of(row).subject,
            details={"digest": row.digest},
        )  # fmt: skip
        return _read(row)


@dataclass(frozen=True, slots=True)
class _Change:
    """How a version comes into force, and what the audit log calls that."""

    action: str
    put_in_force: PutInForce


async def _put_in_force(
    state: State, principal: Principal, change: _Change, *, name: str, version: int, if_match: str
) -> PolicyVersionRead:
    require_whole_organization(principal)
    of_platform = await platform(state, principal.organization_id)
    async with state.database.begin(principal.organization_id) as session:
        text = (await steering_policies.read_version(session, name, version)).yaml
    await of_platform.checked(text, source=f"{name}@{version}")
    async with state.database.begin(principal.organization_id) as session:
        row = await steering_policies.read_version(session, name, version)
        replaced = await change.put_in_force(
            session, row, by=principal.id, over=if_match.strip('"'), platform_digest=of_platform.policy.digest
        )
        before = {"name": replaced.name, "version": replaced.version} if replaced else {"name": PLATFORM}
        details = {"digest": row.digest, "replaced": {**before, "digest": if_match.strip('"')}}
        await audit.append(
            session, actor=principal, action=change.action, subject=version_of(row).subject, details=details
        )
        return _read(row)


async def _validated(state: State, principal: Principal, text: str, *, source: str) -> ValidationRead:
    try:
        await (await platform(state, principal.organization_id)).checked(text, source=source)
    except Invalid as error:
        findings = TypeAdapter(list[Finding]).validate_python(error.details["mistakes"])
        return ValidationRead(is_valid=False, digest=policy_digest(text), findings=findings)
    return ValidationRead(is_valid=True, digest=policy_digest(text), findings=[])


def _read(row: SteeringPolicyRow) -> PolicyVersionRead:
    return PolicyVersionRead.model_validate(row, from_attributes=True)
