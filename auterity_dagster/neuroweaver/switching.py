"""Which artefact serves a scope, and how that changes: one compare-and-set step at a time, each with a ledger row."""

from collections.abc import Mapping
from dataclasses import dataclass
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
    """What serves a scope now. `pinned_by` keeps automation away; a person's pin beats it."""

    scope: str
    current_digest: str | None
    previous_digest: str | None
    sequence: int
    pinned_by: UUID | None


@dataclass(frozen=True, slots=True)
class Switch:
    """A wanted change: from what the caller saw to what it wants. `actor` is None for automation."""

    expected_digest: str | None
    to_digest: str
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
    to_digest: str
    weight_percent: int
    phase: ServingPhase
    reason: str
    actor: UUID | None


def switched(state: ServingState, switch: Switch) -> tuple[ServingState, LedgerRow]:
    """Return the state after a switch and its ledger row; storage writes both where `current_digest` is still expected.

    Raises `Conflict` when another switch came first, or when the scope is pinned and nobody asked in person; `Invalid`
    for a weight that does not belong to the phase.
    """
    if state.current_digest != switch.expected_digest:
        raise Conflict(f"{state.scope} is served by {state.current_digest}, not by {switch.expected_digest}")
    if state.pinned_by is not None and switch.actor is None:
        raise Conflict(f"{state.scope} is pinned by {state.pinned_by}", code="scope_pinned")
    is_whole = switch.phase is ServingPhase.CHAMPION
    if (is_whole and switch.weight_percent != 100) or (
        switch.phase is ServingPhase.CANARY and switch.weight_percent not in CANARY_STEPS
    ):
        raise Invalid(f"{switch.phase} does not serve {switch.weight_percent} %", field="weight_percent")
    if switch.phase not in (ServingPhase.CANARY, ServingPhase.CHAMPION):
        raise Invalid(f"{switch.phase} serves nobody", field="phase")
    becomes_other = is_whole and switch.to_digest != state.current_digest
    after = ServingState(
        scope=state.scope,
        current_digest=switch.to_digest if is_whole else state.current_digest,
        previous_digest=state.current_digest if becomes_other else state.previous_digest,
        sequence=state.sequence + 1,
        pinned_by=state.pinned_by,
    )
    row = LedgerRow(
        scope=state.scope,
        sequence=after.sequence,
        from_digest=state.current_digest,
        to_digest=switch.to_digest,
        weight_percent=switch.weight_percent,
        phase=switch.phase,
        reason=switch.reason,
        actor=switch.actor,
    )
    return after, row


def check_step(before: ServingPhase, after: ServingPhase) -> None:
    """Raise `Conflict` if an artefact may not go from one phase to the other; a quarantined one goes nowhere."""
    if after not in NEXT[before]:
        raise Conflict(f"an artefact that is {before} cannot become {after}")
