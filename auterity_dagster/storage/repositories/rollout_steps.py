"""One look at a scope: what its traffic says, what the rules decide, and the switch that follows, all at once."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from auterity_dagster.neuroweaver.rollout import Challenge, Decision, next_step, why_harmful
from auterity_dagster.neuroweaver.switching import ServingPhase, ServingState, Switch, rolled_back
from auterity_dagster.relaycore.catalog import registered_id
from auterity_dagster.storage.repositories import audit, observations, serving_state
from auterity_dagster.storage.tables.specialisation import ServingStateRow, SwitchLedgerRow

CHAMPION_WINDOW = timedelta(hours=24)
"""A champion is judged by its last day: what it did well before is no excuse."""

DEMO_ORGANIZATIONS = "demo organizations"
ROUTABLE = {DEMO_ORGANIZATIONS: 100, "25 percent": 25, "100 percent": 100}
"""The share up to which automation takes a model, by what its verdict says that it may route."""

_PHASES = {
    "advance": ServingPhase.CANARY,
    "promote": ServingPhase.CHAMPION,
    "retire": ServingPhase.RETIRED,
}


@dataclass(frozen=True, slots=True)
class Step:
    """What was decided about a scope and about which artefact; `is_done` where it was a switch."""

    scope: str
    artefact_digest: str
    decision: Decision
    is_done: bool


def take_step(
    session: Session, organization_id: UUID, scope: str, *, now: datetime, failed_health_checks: int
) -> Step | None:
    """Decide about a scope's challenger, or else about its champion, and carry it out; None where there is neither.

    Raises `Conflict` when somebody switched meanwhile or the scope is pinned: nothing is changed then.
    """
    state = serving_state.serving_state(session, scope)
    if state.challenger_digest is not None:
        decision = _about_challenger(session, state, now=now, failed_health_checks=failed_health_checks)
        digest = state.challenger_digest
    elif state.current_digest is not None:
        decision = _about_champion(session, state, now=now, failed_health_checks=failed_health_checks)
        digest = state.current_digest
    else:
        return None
    if decision.move == "stay":
        return Step(scope, digest, decision, is_done=False)
    change = _change(state, decision)
    entry = serving_state.Entry(organization_id, scope, [], f"{scope}:{state.sequence}:{decision.move}")
    is_done = serving_state.switch(session, change, entry)
    audit.append_blocking(
        session,
        actor=None,
        action=f"deployment.{decision.move}",
        subject=serving_state.deployment_id(scope),
        details={"artefact_digest": digest, "weight_percent": decision.weight_percent, "reason": decision.reason},
    )
    return Step(scope, digest, decision, is_done)


def _about_challenger(session: Session, state: ServingState, *, now: datetime, failed_health_checks: int) -> Decision:
    digest = state.challenger_digest or ""
    since = (
        session.scalars(select(ServingStateRow.challenger_since).where(ServingStateRow.scope == state.scope)).one()
        or now
    )
    challenge = Challenge(
        weight_percent=state.challenger_percent,
        since=since,
        observed=observations.observed(
            session,
            deployment_id=registered_id(serving_state.deployment_id(state.scope), "challenger"),
            artefact_digest=digest,
            champion_id=serving_state.deployment_id(state.scope) if state.current_digest else None,
            since=since,
            failed_health_checks=failed_health_checks,
        ),
        winners=observations.winners(
            session, state.scope, champion_digest=state.current_digest, challenger_digest=digest
        ),
    )
    today = serving_state.champion_switches(session, state.scope, since=now - timedelta(hours=24))
    decision = next_step(challenge, now=now, switches_today=len(today), last_switch_at=today[-1] if today else None)
    known = serving_state.released(session, state.scope, digest)
    may_route = "" if known is None else known.may_route
    largest = ROUTABLE.get(may_route, 0)
    if decision.move in ("advance", "promote") and decision.weight_percent > largest:
        return Decision("stay", state.challenger_percent, f"its verdict allows {largest} %")
    if decision.move == "promote" and may_route != DEMO_ORGANIZATIONS:
        return Decision("stay", state.challenger_percent, f"{decision.reason}: two people promote it")
    return decision


def _about_champion(session: Session, state: ServingState, *, now: datetime, failed_health_checks: int) -> Decision:
    digest = state.current_digest or ""
    became = session.scalar(
        select(SwitchLedgerRow.recorded_at)
        .where(SwitchLedgerRow.scope == state.scope, SwitchLedgerRow.to_digest == digest)
        .order_by(SwitchLedgerRow.sequence.desc())
        .limit(1)
    )
    since = max(now - CHAMPION_WINDOW, became or now - CHAMPION_WINDOW)
    found = observations.observed(
        session,
        deployment_id=serving_state.deployment_id(state.scope),
        artefact_digest=digest,
        champion_id=None,
        since=since,
        failed_health_checks=failed_health_checks,
    )
    harm = why_harmful(found)
    return Decision("stay", 100, "no harm seen") if harm is None else Decision("roll_back", 0, harm)


def _change(state: ServingState, decision: Decision) -> Switch:
    if decision.move == "roll_back":
        return rolled_back(state, reason=decision.reason, actor=None)
    return Switch(
        expected_digest=state.current_digest,
        to_digest=state.challenger_digest,
        phase=_PHASES[decision.move],
        weight_percent=decision.weight_percent,
        reason=decision.reason,
        actor=None,
    )
