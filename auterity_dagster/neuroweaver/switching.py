"""Which artefact serves a scope, and how that changes: one compare-and-set step at a time, each with a ledger row."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from uuid import UUID

from auterity_dagster.errors import Conflict, Invalid


class ServingPhase(StrEnum):
    """Where an artefact stands on its way to the customers and back."""

    CANDIDATE = "candidate"
    GATED = "gated"
    SHADOW = "shadow"
    CANARY = "canary"
    CHAMPION = "champion"
    RETIRED = "retired"
    ROLLED_BACK = "rolled_back"
    QUARANTINED = "quarantined"


NEXT: Mapping[ServingPhase, frozenset[ServingPhase]] = {
    ServingPhase.CANDIDATE: frozenset({ServingPhase.GATED, ServingPhase.RETIRED}),
    ServingPhase.GATED: frozenset(
        {ServingPhase.SHADOW, ServingPhase.CANARY, ServingPhase.CHAMPION, ServingPhase.RETIRED}
    ),
    ServingPhase.SHADOW: frozenset({ServingPhase.CANARY, ServingPhase.RETIRED, ServingPhase.QUARANTINED}),
    ServingPhase.CANARY: frozenset({ServingPhase.CHAMPION, ServingPhase.ROLLED_BACK, ServingPhase.QUARANTINED}),
    ServingPhase.CHAMPION: frozenset({ServingPhase.RETIRED, ServingPhase.ROLLED_BACK, ServingPhase.QUARANTINED}),
    ServingPhase.ROLLED_BACK: frozenset({ServingPhase.QUARANTINED, ServingPhase.RETIRED}),
    ServingPhase.RETIRED: frozenset({ServingPhase.CHAMPION}),
    ServingPhase.QUARANTINED: frozenset(),
}
CANARY_STEPS = (1, 5, 25)


@dataclass(frozen=True, slots=True)
class ServingState:
    """What serves a scope now: None is the base route. `pinned_by` keeps automation away; a person's pin beats it.

    A challenger has `challenger_percent` of the traffic, 0 while it answers in the shadow. `quarantined` artefacts were
    taken back for harm and never return.
    """

    scope: str
    current_digest: str | None
    previous_digest: str | None
    sequence: int
    pinned_by: str | None
    challenger_digest: str | None = None
    challenger_percent: int = 0
    quarantined: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Switch:
    """A wanted change: from what the caller saw to what it wants. `actor` is None for automation.

    Rolling back names what gets the traffic: the champion where a challenger did harm, else the one before it.
    """

    expected_digest: str | None
    to_digest: str | None
    phase: ServingPhase
    weight_percent: int
    reason: str
    actor: UUID | None


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """One line of the append-only switch ledger."""

    scope: str
    sequence: int
    from_digest: str | None
    to_digest: str | None
    weight_percent: int
    phase: ServingPhase
    reason: str
    actor: UUID | None


_WEIGHTS: Mapping[ServingPhase, tuple[int, ...]] = {
    ServingPhase.SHADOW: (0,),
    ServingPhase.CANARY: CANARY_STEPS,
    ServingPhase.CHAMPION: (100,),
    ServingPhase.RETIRED: (0,),
    ServingPhase.ROLLED_BACK: (100,),
}


def switched(state: ServingState, switch: Switch) -> tuple[ServingState, LedgerRow]:
    """Return the state after a switch and its ledger row; storage writes both where the state is still this one.

    Raises `Conflict` when another switch came first, when the scope is pinned and nobody asked in person, or for an
    artefact in quarantine; `Invalid` for a weight that does not belong to the phase.
    """
    if state.current_digest != switch.expected_digest:
        raise Conflict(f"{state.scope} is served by {state.current_digest}, not by {switch.expected_digest}")
    if state.pinned_by is not None and switch.actor is None:
        raise Conflict(f"{state.scope} is pinned by {state.pinned_by}", code="scope_pinned")
    if switch.to_digest in state.quarantined:
        raise Conflict(f"{switch.to_digest} is in quarantine: it was taken back for harm", code="quarantined")
    if switch.phase not in _WEIGHTS:
        raise Invalid(f"{switch.phase} serves nobody", field="phase")
    if switch.weight_percent not in _WEIGHTS[switch.phase]:
        raise Invalid(f"{switch.phase} does not serve {switch.weight_percent} %", field="weight_percent")
    moved = replace(_moved(state, switch), sequence=state.sequence + 1)
    is_challengers = switch.phase is ServingPhase.ROLLED_BACK and switch.to_digest == state.current_digest
    row = LedgerRow(
        scope=state.scope,
        sequence=moved.sequence,
        from_digest=state.challenger_digest if is_challengers else state.current_digest,
        to_digest=switch.to_digest,
        weight_percent=switch.weight_percent,
        phase=switch.phase,
        reason=switch.reason,
        actor=switch.actor,
    )
    return moved, row


def rolled_back(state: ServingState, *, reason: str, actor: UUID | None) -> Switch:
    """Return the switch that takes the traffic from the challenger, or from the champion where there is none."""
    target = state.previous_digest if state.challenger_digest is None else state.current_digest
    return Switch(state.current_digest, target, ServingPhase.ROLLED_BACK, 100, reason, actor)


def _moved(state: ServingState, switch: Switch) -> ServingState:
    match switch.phase:
        case ServingPhase.SHADOW | ServingPhase.CANARY:
            if switch.to_digest == state.current_digest:
                raise Conflict(f"{switch.to_digest} serves the scope already")
            if state.challenger_digest not in (None, switch.to_digest):
                raise Conflict(f"{state.challenger_digest} is on its way; retire it first", code="other_challenger")
            return replace(state, challenger_digest=switch.to_digest, challenger_percent=switch.weight_percent)
        case ServingPhase.RETIRED:
            if switch.to_digest != state.challenger_digest:
                raise Conflict(f"{switch.to_digest} is not the challenger")
            return replace(state, challenger_digest=None, challenger_percent=0)
        case ServingPhase.ROLLED_BACK:
            return _taken_back(state, switch)
        case _:
            if switch.to_digest == state.current_digest:
                raise Conflict(f"{switch.to_digest} serves the scope already")
            return replace(
                state,
                current_digest=switch.to_digest,
                previous_digest=state.current_digest,
                challenger_digest=None,
                challenger_percent=0,
            )


def _taken_back(state: ServingState, switch: Switch) -> ServingState:
    if switch.to_digest == state.current_digest:
        if state.challenger_digest is None:
            raise Conflict(f"{state.scope} has no challenger to take traffic from")
        harmful = state.challenger_digest
        return replace(state, challenger_digest=None, challenger_percent=0, quarantined=state.quarantined | {harmful})
    if switch.to_digest != state.previous_digest:
        raise Conflict(f"{switch.to_digest} is not what served before", code="not_previous")
    harmful = state.current_digest
    return replace(
        state,
        current_digest=state.previous_digest,
        previous_digest=None,
        quarantined=state.quarantined | ({harmful} if harmful else set()),
    )


def check_step(before: ServingPhase, after: ServingPhase) -> None:
    """Raise `Conflict` if an artefact may not go from one phase to the other; a quarantined one goes nowhere."""
    if after not in NEXT[before]:
        raise Conflict(f"an artefact that is {before} cannot become {after}")
