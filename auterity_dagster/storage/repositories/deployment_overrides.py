"""What an organization's people set for deployments: one row each, changed on top of what was read."""

from collections.abc import Mapping
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from auterity_dagster.errors import Conflict
from auterity_dagster.relaycore.catalog import DeploymentOverride
from auterity_dagster.storage.tables.steering import DeploymentOverrideRow


async def deployment_overrides(session: AsyncSession) -> Mapping[str, DeploymentOverride]:
    """Return everything that is set, by deployment."""
    rows = await session.scalars(select(DeploymentOverrideRow))
    return {row.deployment_id: _stored(row) for row in rows}


async def put_override(
    session: AsyncSession, organization_id: UUID, wanted: DeploymentOverride, *, by: UUID
) -> DeploymentOverride:
    """Set a deployment's override in place of version `wanted.version`, and return it with its new version.

    Raises `Conflict` when somebody else changed it meanwhile.
    """
    values = {
        "is_off": wanted.is_off,
        "weight_percent": wanted.weight_percent,
        "note": wanted.note,
        "version": wanted.version + 1,
        "changed_by": by,
    }
    if wanted.version == 0:
        key = {"organization_id": organization_id, "deployment_id": wanted.deployment_id}
        setting = insert(DeploymentOverrideRow).values(**key, **values).on_conflict_do_nothing()
    else:
        setting = (
            update(DeploymentOverrideRow)
            .where(
                DeploymentOverrideRow.deployment_id == wanted.deployment_id,
                DeploymentOverrideRow.version == wanted.version,
            )
            .values(**values, changed_at=func.now())
        )
    row = await session.scalar(setting.returning(DeploymentOverrideRow))
    if row is None:
        raise Conflict("The deployment's settings have changed meanwhile: read them again", code="changed_meanwhile")
    return _stored(row)


def _stored(row: DeploymentOverrideRow) -> DeploymentOverride:
    return DeploymentOverride(row.deployment_id, row.is_off, row.weight_percent, row.note, row.version)
