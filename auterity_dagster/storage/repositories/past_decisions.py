"""Stored decisions of the gateway, with the policies and catalogues that they were made from."""

from collections.abc import Iterable
from datetime import date
from typing import Any, Literal, cast

from sqlalchemy import select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from auterity_dagster.relaycore.policy_replay import Contexts, PastDecision
from auterity_dagster.storage.tables.routing import RequestRow
from auterity_dagster.storage.tables.steering import DecisionContextRow


async def past_decisions(session: AsyncSession, *, since: date, limit: int) -> list[PastDecision]:
    """Return the newest decisions from a day on that say what they were made from."""
    rows = await session.execute(
        select(RequestRow.id, RequestRow.decided_on)
        .where(RequestRow.day >= since, RequestRow.decided_on.is_not(None))
        .order_by(RequestRow.day.desc(), RequestRow.received_at.desc(), RequestRow.id)
        .limit(limit)
    )
    return [PastDecision(request_id, cast(dict[str, Any], inputs)) for request_id, inputs in rows]


async def contexts_of(session: AsyncSession, past: Iterable[PastDecision]) -> Contexts:
    """Return the policies and catalogues that these decisions name, as far as they are kept."""
    kinds: tuple[Literal["policy", "catalog"], ...] = ("policy", "catalog")
    named = {(kind, str(one.inputs[kind])) for one in past for kind in kinds}
    place = tuple_(DecisionContextRow.kind, DecisionContextRow.digest)
    rows = await session.scalars(select(DecisionContextRow).where(place.in_(named)))
    return {(cast(Literal["policy", "catalog"], row.kind), row.digest): row.content for row in rows}
