"""Waits: armed once for a step, and ended by whichever is first, the event or the time: one row, one winner."""

from collections.abc import Collection
from datetime import datetime
from uuid import UUID, uuid4

from sqlalchemy import literal, select, update
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.orm import Session

from auterity_dagster.automatrix.event import Event
from auterity_dagster.automatrix.ports import AnsweredMeanwhile, Snapshot, WaitElapsed, WaitOpened
from auterity_dagster.automatrix.trigger import envelope
from auterity_dagster.automatrix.waiting import match_key, match_keys
from auterity_dagster.storage.repositories.outbox import EXECUTIONS, announcement, execution_topic
from auterity_dagster.storage.tables.workflows import ExecutionRow, WaitRow


def arm(session: Session, snapshot: Snapshot, opened: WaitOpened, now: datetime) -> None:
    """Write what a step waits for; a second time for the same step changes nothing."""
    session.execute(
        insert(WaitRow)
        .values(
            organization_id=snapshot.claim.organization_id,
            id=uuid4(),
            dealership_id=snapshot.dealership_id,
            execution_id=snapshot.claim.execution_id,
            path=opened.path,
            event_type=opened.event_type,
            match_key=match_key(opened.match),
            match=dict(opened.match),
            state="open",
            expires_at=opened.expires_at,
            created_at=now,
        )
        .on_conflict_do_nothing()
    )


def elapse(session: Session, snapshot: Snapshot, elapsed: WaitElapsed, now: datetime) -> None:
    """Let the time win. Raises `AnsweredMeanwhile` if the event has."""
    won = session.scalar(
        update(WaitRow)
        .where(
            WaitRow.organization_id == snapshot.claim.organization_id,
            WaitRow.execution_id == snapshot.claim.execution_id,
            WaitRow.path == elapsed.path,
            WaitRow.state == "open",
        )
        .values(state="elapsed", closed_at=now)
        .returning(WaitRow.id)
    )
    if won is None:
        raise AnsweredMeanwhile(f"the event that {elapsed.path} waits for came first")


def close(session: Session, organization_id: UUID, executions: Collection[UUID], now: datetime) -> None:
    """Nobody waits any more: the executions are over."""
    session.execute(
        update(WaitRow)
        .where(
            WaitRow.organization_id == organization_id,
            WaitRow.execution_id.in_(executions),
            WaitRow.state == "open",
        )
        .values(state="cancelled", closed_at=now)
    )


def end_waits(session: Session, event: Event) -> tuple[UUID, ...]:
    """Let an event end every wait of its dealership that it matches; returns the executions that it is for.

    The rows of the executions are locked before their waits, in one order: a worker that is about to park sees the
    event or is seen waiting by it, and two events at once do not wait for each other.
    """
    own = (
        WaitRow.organization_id == event.organization_id,
        WaitRow.event_type == event.type,
        WaitRow.match_key.in_(match_keys(event.data)),
        WaitRow.state == "open",
        WaitRow.dealership_id == event.dealership_id,
        WaitRow.expires_at > event.time,
        literal(dict(event.data), JSONB).contains(WaitRow.match),
    )
    executions = session.scalars(select(WaitRow.execution_id).where(*own).distinct()).all()
    if not executions:
        return ()
    mine = (ExecutionRow.organization_id == event.organization_id, ExecutionRow.id.in_(executions))
    session.execute(select(ExecutionRow.id).where(*mine).order_by(ExecutionRow.id).with_for_update())
    ended = set(
        session.scalars(
            update(WaitRow)
            .where(*own, WaitRow.execution_id.in_(executions))
            .values(state="event", event=dict(envelope(event)), closed_at=event.time)
            .returning(WaitRow.execution_id)
        )
    )
    wake(session, event.organization_id, ended, event.time)
    return tuple(sorted(ended))


def hand_over(session: Session, event: Event, execution_id: UUID, now: datetime) -> None:
    """End every wait of one execution for an event of this type, whatever it matches; its row is locked already."""
    ended = session.scalars(
        update(WaitRow)
        .where(
            WaitRow.organization_id == event.organization_id,
            WaitRow.execution_id == execution_id,
            WaitRow.event_type == event.type,
            WaitRow.state == "open",
        )
        .values(state="event", event=dict(envelope(event)), closed_at=now)
        .returning(WaitRow.id)
    ).all()
    if ended:
        wake(session, event.organization_id, [execution_id], now)


def wake(session: Session, organization_id: UUID, executions: Collection[UUID], now: datetime) -> None:
    """Queue those that wait; one that a worker holds finds what came when it wants to park."""
    woken = session.execute(
        update(ExecutionRow)
        .where(
            ExecutionRow.organization_id == organization_id,
            ExecutionRow.id.in_(executions),
            ExecutionRow.state == "waiting",
        )
        .values(state="queued", ready_at=now)
        .returning(ExecutionRow.id, ExecutionRow.dealership_id)
    ).all()
    for execution_id, dealership_id in woken:
        payload = {
            "execution_id": str(execution_id),
            "dealership_id": str(dealership_id),
            "state": "queued",
            "at": now.isoformat(),
        }
        for topic in (EXECUTIONS, execution_topic(execution_id)):
            session.execute(
                announcement(organization_id, topic=topic, kind="execution.moved", payload=payload, now=now)
            )
