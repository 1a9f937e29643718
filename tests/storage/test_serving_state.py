"""Switching a scope on PostgreSQL: one winner, a ledger that only grows, doors that a verdict opens, quarantine."""

import pytest
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from auterity_dagster.errors import Conflict, NotPermitted
from auterity_dagster.neuroweaver.switching import ServingPhase
from auterity_dagster.storage.database import BlockingDatabase
from auterity_dagster.storage.repositories import serving_state
from tests.storage.serving_scopes import (
    SCOPE,
    Scope,
    assert_one_winner_a_round,
    compared_and_set,
    digest,
    ledger,
    new_scope,
    rounds,
    served,
)


@pytest.fixture
def scope(blocking_database: BlockingDatabase) -> Scope:
    return new_scope(blocking_database)


def test_a_challenger_rises_wins_and_falls_and_routing_reads_each_step(scope: Scope) -> None:
    scope.release("a")
    steps: list[dict[str, tuple[str, int]]] = []
    canary = ServingPhase.CANARY

    for number, (before, after, phase, weight) in enumerate(
        [
            (None, "a", ServingPhase.CHAMPION, 100),
            ("a", "b", ServingPhase.SHADOW, 0),
            ("a", "b", canary, 5),
            ("a", "b", canary, 25),
            ("a", "b", ServingPhase.CHAMPION, 100),
            ("b", "a", ServingPhase.ROLLED_BACK, 100),
        ]
    ):
        scope.switch(before, after, phase=phase, weight_percent=weight, key=str(number))
        scope.release("b" if before is None else ())
        steps.append(served(scope))

    assert steps == [
        {"champion": ("a", 100)},
        {"champion": ("a", 100), "challenger": ("b", 0)},
        {"champion": ("a", 100), "challenger": ("b", 5)},
        {"champion": ("a", 100), "challenger": ("b", 25)},
        {"champion": ("b", 100)},
        {"champion": ("a", 100)},
    ]
    assert [row.sequence for row in ledger(scope)] == [1, 2, 3, 4, 5, 6]
    with pytest.raises(Conflict, match="quarantine"):
        scope.switch("a", "b", phase=canary, weight_percent=1, key="again")


def test_a_first_model_that_is_taken_back_leaves_the_base_route(scope: Scope) -> None:
    scope.release("a")
    scope.switch(None, "a", key="1")

    scope.switch("a", None, phase=ServingPhase.ROLLED_BACK, key="2")

    assert served(scope) == {}
    with scope.database.begin(scope.organization_id) as session:
        assert serving_state.current_digest(session, SCOPE) is None


def test_the_same_change_twice_is_one_switch(scope: Scope) -> None:
    scope.release("ab")

    assert [scope.switch(None, "a", key="1"), scope.switch(None, "a", key="1")] == [True, False]
    with pytest.raises(Conflict):
        scope.switch(None, "b", key="2")


@pytest.mark.parametrize(
    ("judged", "phase", "weight"),
    [
        (verdict, phase, weight)
        for verdict in ("none", "FAIL", "INCONCLUSIVE", "ended", "later FAIL", "old champion")
        for phase, weight in ((ServingPhase.SHADOW, 0), (ServingPhase.CANARY, 1), (ServingPhase.CHAMPION, 100))
    ],
)
def test_no_door_opens_without_a_pass_in_force(scope: Scope, judged: str, phase: ServingPhase, weight: int) -> None:
    scope.release("a")
    scope.switch(None, "a", key="1")
    if judged == "ended":
        scope.judge("b", days=-1)
    elif judged == "later FAIL":
        scope.judge("b")
        scope.judge("b", "FAIL", later_s=1)
    elif judged == "old champion":
        scope.judge("b", champion=digest("z"))
    elif judged != "none":
        scope.judge("b", judged)

    with pytest.raises(NotPermitted, match=r"No verdict|champion has changed"):
        scope.switch("a", "b", phase=phase, weight_percent=weight, key="2")

    assert served(scope) == {"champion": ("a", 100)}
    assert len(ledger(scope)) == 1


def test_what_was_never_released_is_not_switched_to(scope: Scope) -> None:
    scope.judge("b")

    with pytest.raises(Conflict, match="never released"):
        scope.switch(None, "b", key="1")

    assert ledger(scope) == []


def test_the_ledger_cannot_be_rewritten(scope: Scope) -> None:
    scope.release("a")
    scope.switch(None, "a", key="1")

    for statement in ("UPDATE switch_ledger SET reason = 'x'", "DELETE FROM switch_ledger"):
        with pytest.raises(ProgrammingError), scope.database.begin(scope.organization_id) as session:
            session.execute(text(statement))


def test_of_ten_promoters_who_saw_the_same_champion_one_wins_in_each_of_twenty_rounds(scope: Scope) -> None:
    won = rounds(scope, compared_and_set, promoters=10, count=20)

    assert_one_winner_a_round(scope, won)
