"""Versions of organizations' own steering policies: added, listed, one of them in force at a time, never edited."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

from sqlalchemy import cast, func, literal, select, update
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from auterity_dagster.errors import Conflict, NotFound
from auterity_dagster.relaycore.steering_policy import SteeringPolicy
from auterity_dagster.storage.tables.steering import SteeringPolicyRow

MAX_REPORTS = 50
"""A version keeps this many reports; the audit log has every one."""


@dataclass(frozen=True, slots=True)
class PolicyVersion:
    """Which version of which policy, and the digest of its text."""

    name: str
    version: int
    digest: str

    @property
    def subject(self) -> str:
        """What the audit log calls it."""
        return f"steering_policy/{self.name}/{self.version}"


class PutInForce(Protocol):
    """`activate` or `roll_back`."""

    async def __call__(
        self, session: AsyncSession, row: SteeringPolicyRow, *, by: UUID, over: str, platform_digest: str
    ) -> PolicyVersion | None: ...


def version_of(row: SteeringPolicyRow) -> PolicyVersion:
    """Return which version a row is."""
    return PolicyVersion(row.name, row.version, row.digest)


async def add_version(
    session: AsyncSession, organization_id: UUID, policy: SteeringPolicy, *, note: str, by: UUID
) -> SteeringPolicyRow:
    """Store a draft under the policy's own name. Raises `Conflict` where this very text is a version already."""
    newest = select(func.coalesce(func.max(SteeringPolicyRow.version), 0)).where(SteeringPolicyRow.name == policy.name)
    row = SteeringPolicyRow(
        organization_id=organization_id,
        name=policy.name,
        version=(await session.scalars(newest)).one() + 1,
        yaml=policy.text,
        digest=policy.digest,
        note=note,
        status="draft",
        reports=[],
        created_by=by,
    )
    session.add(row)
    try:
        await session.flush()
    except IntegrityError as error:
        raise Conflict(
            f"{policy.name} has a version with this text, or another one was added meanwhile", code="version_exists"
        ) from error
    await session.refresh(row)
    return row


async def versions(session: AsyncSession, *, name: str | None, limit: int) -> Sequence[SteeringPolicyRow]:
    """Return versions, the newest first."""
    query = select(SteeringPolicyRow).order_by(SteeringPolicyRow.created_at.desc(), SteeringPolicyRow.version.desc())
    if name is not None:
        query = query.where(SteeringPolicyRow.name == name)
    return (await session.scalars(query.limit(limit))).all()


async def read_version(session: AsyncSession, name: str, version: int) -> SteeringPolicyRow:
    """Return one version. Raises `NotFound`, also for a foreign one."""
    row = await session.scalar(
        select(SteeringPolicyRow).where(SteeringPolicyRow.name == name, SteeringPolicyRow.version == version)
    )
    if row is None:
        raise NotFound("There is no such version of a steering policy")
    return row


async def active_version(session: AsyncSession) -> PolicyVersion | None:
    """Return which version is in force, without its text; None where the platform's policy is."""
    found = (
        await session.execute(
            select(SteeringPolicyRow.name, SteeringPolicyRow.version, SteeringPolicyRow.digest).where(
                SteeringPolicyRow.status == "active"
            )
        )
    ).one_or_none()
    return None if found is None else PolicyVersion(found.name, found.version, found.digest)


async def policy_text(session: AsyncSession, wanted: PolicyVersion) -> str:
    """Return a version's YAML. Raises `NotFound`."""
    return (await read_version(session, wanted.name, wanted.version)).yaml


def active_policy_text_blocking(session: Session) -> str | None:
    """Return the YAML of the version in force, for synchronous code; None where the platform's policy is."""
    return session.scalar(select(SteeringPolicyRow.yaml).where(SteeringPolicyRow.status == "active"))


async def activate(
    session: AsyncSession, row: SteeringPolicyRow, *, by: UUID, over: str, platform_digest: str
) -> PolicyVersion | None:
    """Put a draft in force and return what it replaces (None: the platform's policy).

    `over` is the digest of what the caller saw in force. Raises `Conflict` when something else is in force, or when
    the version is no draft, or when the caller wrote it.
    """
    if row.status != "draft":
        raise Conflict(f"This version is {row.status}: only a draft can be activated", code="version_state")
    if row.created_by == by:
        raise Conflict("Another person than the one who wrote a version activates it", code="second_person_needed")
    return await _put_in_force(session, row, by=by, over=over, platform_digest=platform_digest)


async def roll_back(
    session: AsyncSession, row: SteeringPolicyRow, *, by: UUID, over: str, platform_digest: str
) -> PolicyVersion | None:
    """Put a version in force that was in force before; whoever notices may do it alone. Raises `Conflict`."""
    if row.status != "archived":
        raise Conflict(f"This version is {row.status}: only one that was in force can come back", code="version_state")
    return await _put_in_force(session, row, by=by, over=over, platform_digest=platform_digest)


async def retire(session: AsyncSession, row: SteeringPolicyRow, *, over: str) -> None:
    """Take the version that is in force out of it: the platform's policy steers again. Raises `Conflict`."""
    if row.status != "active" or row.digest != over:
        raise Conflict("This version is not in force any more: read again what is", code="changed_meanwhile")
    await _set_status(session, row, {"status": "archived"}, only_if="active")


async def add_report(session: AsyncSession, version: PolicyVersion, report: Mapping[str, Any]) -> bool:
    """Keep what was found out about a version; False if the same was kept before, or if there is no more room."""
    told = cast(literal([dict(report)], JSONB()), JSONB())
    changed = await session.scalar(
        update(SteeringPolicyRow)
        .where(
            SteeringPolicyRow.name == version.name,
            SteeringPolicyRow.version == version.version,
            ~SteeringPolicyRow.reports.contains(told),
            func.jsonb_array_length(SteeringPolicyRow.reports) < MAX_REPORTS,
        )
        .values(reports=SteeringPolicyRow.reports.concat(told))
        .returning(SteeringPolicyRow.version)
    )
    return changed is not None


async def _put_in_force(
    session: AsyncSession, row: SteeringPolicyRow, *, by: UUID, over: str, platform_digest: str
) -> PolicyVersion | None:
    before = await session.scalar(
        select(SteeringPolicyRow).where(SteeringPolicyRow.status == "active").with_for_update()
    )
    if over != (before.digest if before is not None else platform_digest):
        raise Conflict("Another policy is in force than the one you saw: read it again", code="changed_meanwhile")
    replaced = None
    if before is not None:
        replaced = version_of(before)
        await _set_status(session, before, {"status": "archived"}, only_if="active")
    values = {"status": "active", "activated_by": by, "activated_at": func.now()}
    await _set_status(session, row, values, only_if=row.status)
    return replaced


async def _set_status(
    session: AsyncSession, row: SteeringPolicyRow, values: Mapping[str, Any], *, only_if: str
) -> None:
    """One guarded UPDATE; the unique index refuses a second active version."""
    changing = (
        update(SteeringPolicyRow)
        .where(
            SteeringPolicyRow.name == row.name,
            SteeringPolicyRow.version == row.version,
            SteeringPolicyRow.status == only_if,
        )
        .values(values)
        .returning(SteeringPolicyRow.version)
        .execution_options(synchronize_session=False)
    )
    try:
        changed = await session.scalar(changing)
    except IntegrityError as error:
        raise Conflict("Another version was put in force meanwhile: read it again", code="changed_meanwhile") from error
    if changed is None:
        raise Conflict("The version has changed meanwhile: read it again", code="changed_meanwhile")
    await session.refresh(row)
