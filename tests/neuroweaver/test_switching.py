"""Switching: one winner, no lost step, a pin beats automation, and a quarantined artefact never comes back."""

import itertools
from dataclasses import replace
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auterity_dagster.errors import Conflict, Invalid
from auterity_dagster.neuroweaver.switching import (
    NEXT,
    ServingPhase,
    ServingState,
    Switch,
    check_step,
    rolled_back,
    switched,
)

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

    assert (after.current_digest, after.challenger_digest, after.challenger_percent) == ("a", "b", 5)
    assert (row.from_digest, row.to_digest, row.weight_percent) == ("a", "b", 5)


@pytest.mark.parametrize(
    ("phase", "weight"),
    [
        (ServingPhase.CHAMPION, 50),
        (ServingPhase.CANARY, 100),
        (ServingPhase.SHADOW, 1),
        (ServingPhase.GATED, 0),
        (ServingPhase.QUARANTINED, 0),
    ],
)
def test_a_weight_belongs_to_its_phase(phase: ServingPhase, weight: int) -> None:
    with pytest.raises(Invalid):
        switched(STATE, switch(phase=phase, weight_percent=weight))


def test_a_pin_beats_automation_and_not_a_person() -> None:
    pinned = ServingState("global", "a", None, 3, pinned_by="owner")

    with pytest.raises(Conflict):
        switched(pinned, switch())
    assert switched(pinned, switch(actor=UUID(int=1)))[0].current_digest == "b"


CHALLENGED = replace(STATE, previous_digest="z", challenger_digest="b", challenger_percent=25)


def test_a_challenger_that_harms_loses_its_traffic_for_good_and_the_champion_stays() -> None:
    after, row = switched(CHALLENGED, rolled_back(CHALLENGED, reason="harm", actor=None))

    assert (after.current_digest, after.challenger_digest, after.challenger_percent) == ("a", None, 0)
    assert (row.from_digest, row.to_digest, row.phase) == ("b", "a", ServingPhase.ROLLED_BACK)
    assert after.quarantined == {"b"}
    with pytest.raises(Conflict, match="quarantine"):
        switched(after, switch(to_digest="b"))


@pytest.mark.parametrize("previous", ["z", None], ids=["to the one before", "to the base route"])
def test_a_champion_that_harms_gives_its_place_back(previous: str | None) -> None:
    state = replace(STATE, previous_digest=previous)

    after, row = switched(state, rolled_back(state, reason="harm", actor=None))

    assert (after.current_digest, after.previous_digest) == (previous, None)
    assert (row.from_digest, row.to_digest) == ("a", previous)
    assert after.quarantined == {"a"}


@pytest.mark.parametrize(
    ("state", "wanted"),
    [
        (CHALLENGED, switch(to_digest="c", phase=ServingPhase.CANARY, weight_percent=1)),
        (CHALLENGED, switch(to_digest="a", phase=ServingPhase.CANARY, weight_percent=1)),
        (CHALLENGED, switch(to_digest="a")),
        (CHALLENGED, switch(to_digest="c", phase=ServingPhase.RETIRED, weight_percent=0)),
        (CHALLENGED, switch(to_digest="y", phase=ServingPhase.ROLLED_BACK)),
        (STATE, switch(to_digest="a", phase=ServingPhase.ROLLED_BACK)),
    ],
    ids=["second challenger", "champion as challenger", "champion again", "other retires", "elsewhere", "nobody"],
)
def test_what_makes_no_sense_is_refused(state: ServingState, wanted: Switch) -> None:
    with pytest.raises(Conflict):
        switched(state, wanted)


def test_a_challenger_that_won_leaves_no_challenger_behind() -> None:
    after, _ = switched(CHALLENGED, switch())

    assert (after.current_digest, after.previous_digest, after.challenger_digest) == ("b", "a", None)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abc")), max_size=30))
def test_the_ledger_has_no_gap_and_joins_on(attempts: list[tuple[str, str]]) -> None:
    state, rows = STATE, []
    for expected, wanted in attempts:
        if expected == state.current_digest and wanted != expected:
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
