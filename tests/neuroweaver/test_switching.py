"""Switching: one winner, no lost step, a pin beats automation, and a quarantined artefact never comes back."""

import itertools
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auterity_dagster.errors import Conflict, Invalid
from auterity_dagster.neuroweaver.switching import NEXT, ServingPhase, ServingState, Switch, check_step, switched

STATE = ServingState(scope="global", current_digest="a", previous_digest=None, sequence=3, pinned_by=None)


def switch(**changes: object) -> Switch:
    values: dict[str, object] = {
        "expected_digest": "a",
        "to_digest": "b",
        "phase": ServingPhase.CHAMPION,
        "weight_percent": 100,
        "reason": "gate passed",
        "actor": None,
    }
    return Switch(**(values | changes))  # type: ignore[arg-type]


def test_a_new_champion_keeps_the_old_one_at_hand() -> None:
    after, row = switched(STATE, switch())

    assert (after.current_digest, after.previous_digest, after.sequence) == ("b", "a", 4)
    assert (row.from_digest, row.to_digest, row.sequence) == ("a", "b", 4)


def test_of_two_promoters_who_saw_the_same_state_one_wins() -> None:
    after, _ = switched(STATE, switch())

    with pytest.raises(Conflict):
        switched(after, switch(to_digest="c"))


def test_a_canary_takes_traffic_and_not_the_place() -> None:
    after, row = switched(STATE, switch(phase=ServingPhase.CANARY, weight_percent=5))

    assert (after.current_digest, row.weight_percent) == ("a", 5)


@pytest.mark.parametrize(
    ("phase", "weight"), [(ServingPhase.CHAMPION, 50), (ServingPhase.CANARY, 100), (ServingPhase.SHADOW, 0)]
)
def test_a_weight_belongs_to_its_phase(phase: ServingPhase, weight: int) -> None:
    with pytest.raises(Invalid):
        switched(STATE, switch(phase=phase, weight_percent=weight))


def test_a_pin_beats_automation_and_not_a_person() -> None:
    pinned = ServingState("global", "a", None, 3, pinned_by=UUID(int=1))

    with pytest.raises(Conflict):
        switched(pinned, switch())
    assert switched(pinned, switch(actor=UUID(int=1)))[0].current_digest == "b"


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abc")), max_size=30))
def test_the_ledger_has_no_gap_and_joins_on(attempts: list[tuple[str, str]]) -> None:
    state, rows = STATE, []
    for expected, wanted in attempts:
        if expected == state.current_digest:
            state, row = switched(state, switch(expected_digest=expected, to_digest=wanted))
            rows.append(row)
        else:
            with pytest.raises(Conflict):
                switched(state, switch(expected_digest=expected, to_digest=wanted))

    assert [row.sequence for row in rows] == list(range(4, 4 + len(rows)))
    assert all(later.from_digest == earlier.to_digest for earlier, later in itertools.pairwise(rows))


def test_a_quarantined_artefact_never_comes_back() -> None:
    assert NEXT[ServingPhase.QUARANTINED] == frozenset()
    with pytest.raises(Conflict):
        check_step(ServingPhase.QUARANTINED, ServingPhase.CHAMPION)
    check_step(ServingPhase.GATED, ServingPhase.CANARY)
