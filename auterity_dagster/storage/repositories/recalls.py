"""The organization's table of recalls: replaced as a whole by a newer day's file, searched by VIN and by model."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from uuid import UUID, uuid4

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from auterity_dagster.automatrix.recall import Recall, RecallsFound, name_key
from auterity_dagster.errors import Conflict
from auterity_dagster.storage.database import BlockingDatabase
from auterity_dagster.storage.repositories.audit import organization_of
from auterity_dagster.storage.tables.connections import RecallRow

BATCH = 1000
CAMPAIGNS = 50


@dataclass(frozen=True, slots=True)
class PostgresRecalls:
    """`automatrix.ports.Recalls` over the table."""

    database: BlockingDatabase

    def find(
        self, organization_id: UUID, *, vin: str | None, make: str | None, vehicle_model: str | None, year: int | None
    ) -> RecallsFound | None:
        with self.database.begin(organization_id) as session:
            as_of = session.scalar(select(func.max(RecallRow.as_of)))
            if as_of is None:
                return None
            if vin is not None:
                own = session.scalars(select(RecallRow).where(RecallRow.vin == vin).limit(CAMPAIGNS)).all()
                if own:
                    return RecallsFound(_distinct(own), "vin", as_of)
            if make is None or vehicle_model is None or year is None:
                return RecallsFound((), "none", as_of)
            alike = session.scalars(
                select(RecallRow)
                .where(
                    RecallRow.make_key == name_key(make),
                    RecallRow.vehicle_model_key == name_key(vehicle_model),
                    RecallRow.year == year,
                    RecallRow.vin.is_(None),
                )
                .order_by(RecallRow.campaign)
                .limit(CAMPAIGNS)
            ).all()
            return RecallsFound(_distinct(alike), "make_model_year" if alike else "none", as_of)


async def replace_all(session: AsyncSession, recalls: Sequence[Recall], *, as_of: date) -> None:
    """Put one day's file in the place of an older one. Raises `Conflict` if a newer one is there."""
    current = await session.scalar(select(func.max(RecallRow.as_of)))
    if current is not None and current > as_of:
        raise Conflict(f"the table is of {current}, which is newer", field="as_of")
    organization_id = organization_of(session.sync_session)
    await session.execute(delete(RecallRow).where(RecallRow.organization_id == organization_id))
    for start in range(0, len(recalls), BATCH):
        rows = [_row(organization_id, one, as_of) for one in recalls[start : start + BATCH]]
        await session.execute(insert(RecallRow).values(rows))


def _row(organization_id: UUID, recall: Recall, as_of: date) -> dict[str, object]:
    return {
        "organization_id": organization_id,
        "id": uuid4(),
        "make_key": name_key(recall.make),
        "vehicle_model_key": name_key(recall.vehicle_model),
        "as_of": as_of,
        **{name: getattr(recall, name) for name in Recall.__slots__},
    }


def _distinct(rows: Sequence[RecallRow]) -> tuple[Recall, ...]:
    found = {row.campaign: Recall(**{name: getattr(row, name) for name in Recall.__slots__}) for row in rows}
    return tuple(found.values())
