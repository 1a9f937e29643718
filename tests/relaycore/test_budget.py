"""Which budgets bind, which holds of a batch fit, and what a refusal says."""

from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auterity_dagster.relaycore.budget import (
    Budget,
    Enforcement,
    Refusal,
    Scope,
    Window,
    budget_exceeded,
    refused,
    tokens_that_fit,
    window_values,
)
from tests.fakes.ledger_requests import hold_request

# Written out: workers that run tests side by side must name the same ones.
ORGANIZATION, DEALERSHIP, KEY, USER, NOBODY = (UUID(int=number) for number in range(1, 6))
OPENS = datetime(2026, 11, 1, 5, tzinfo=UTC)


def budget(scope: Scope = Scope.ORGANIZATION, value: str = "*", enforcement: Enforcement = Enforcement.HARD) -> Budget:
    return Budget(uuid4(), "Trial", scope, value, enforcement, cap_nusd=10**9)


def window(enforcement: Enforcement = Enforcement.HARD) -> Window:
    return Window(uuid4(), budget(enforcement=enforcement), "x", OPENS, OPENS.replace(month=12))


@pytest.mark.parametrize(
    ("scope", "value", "expected"),
    [
        (Scope.ORGANIZATION, "*", [str(ORGANIZATION)]),
        (Scope.DEALERSHIP, "*", [str(DEALERSHIP)]),
        (Scope.DEALERSHIP, str(DEALERSHIP), [str(DEALERSHIP)]),
        (Scope.DEALERSHIP, str(NOBODY), []),
        (Scope.KEY, "*", [str(KEY)]),
        (Scope.USER, "*", [str(USER)]),
        (Scope.USER, str(NOBODY), []),
        (Scope.PURPOSE, "workflow", ["workflow"]),
        (Scope.PURPOSE, "judging", []),
        (Scope.TAG, "*", ["spring", "used-cars"]),
        (Scope.TAG, "spring", ["spring"]),
        (Scope.TAG, "autumn", []),
        (Scope.DEPLOYMENT, "sandbox-large", ["sandbox-large"]),
    ],
)
def test_a_budget_binds_by_its_scope(scope: Scope, value: str, expected: list[str]) -> None:
    request = hold_request(
        ORGANIZATION, dealership_id=DEALERSHIP, key_id=KEY, user_id=USER, tags=("spring", "used-cars")
    )

    assert window_values(budget(scope, value), request) == tuple(expected)


@pytest.mark.parametrize("scope", [Scope.DEALERSHIP, Scope.USER, Scope.TAG])
def test_a_call_that_names_none_is_bound_by_no_budget_of_that_scope(scope: Scope) -> None:
    assert window_values(budget(scope), hold_request(ORGANIZATION)) == ()


@given(
    amounts=st.lists(st.integers(min_value=0, max_value=100), max_size=40),
    memberships=st.lists(st.sets(st.integers(min_value=0, max_value=3)), min_size=40, max_size=40),
    rooms=st.lists(st.integers(min_value=-10, max_value=500), min_size=4, max_size=4),
)
def test_what_is_kept_fits_and_what_is_refused_did_not(
    amounts: list[int], memberships: list[set[int]], rooms: list[int]
) -> None:
    windows = [window() for _ in rooms]
    wanted = [
        (hold_request(ORGANIZATION, amount_nusd=amount), [windows[index] for index in sorted(membership)])
        for amount, membership in zip(amounts, memberships, strict=False)
    ]
    left = {one.id: room for one, room in zip(windows, rooms, strict=True)}

    refusals = {refusal.index: refusal for refusal in refused(wanted, left)}

    for index, (request, of_request) in enumerate(wanted):
        if index in refusals:
            assert refusals[index].room_nusd == min(left[one.id] for one in of_request) < request.amount_nusd
        else:
            for one in of_request:
                left[one.id] -= request.amount_nusd
                assert left[one.id] >= 0


def test_a_soft_budget_refuses_nothing() -> None:
    soft = window(Enforcement.SOFT)

    assert refused([(hold_request(ORGANIZATION), [soft])], {soft.id: -5}) == ()


@pytest.mark.parametrize(("room", "tokens"), [(0, 0), (40, 0), (41, 1), (99, 59), (100, 60), (10_000, 60)])
def test_the_tokens_that_fit_are_what_is_left_after_the_prompt(room: int, tokens: int) -> None:
    request = replace(hold_request(ORGANIZATION, amount_nusd=100), prompt_nusd=40, max_tokens=60)

    assert tokens_that_fit(request, room) == tokens


def test_the_refusal_reads_as_promised() -> None:
    one = window()
    request = hold_request(ORGANIZATION, amount_nusd=250_000_000)

    error = budget_exceeded(request, Refusal(0, one, -7))

    assert error.message == (
        'Budget "Trial" (organization x, 2026-11-01T05:00:00Z to 2026-12-01T05:00:00Z) has $0.00 of $1.00 left; '
        "this call may cost $0.25. 0 output tokens would fit."
    )
    assert (error.details["room_nusd"], UUID(str(error.details["budget_id"]))) == (0, one.budget.id)
