"""A bill against booked calls: what is corrected, how unknown costs are shared, and what stays open."""

from datetime import date
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auterity_dagster.errors import Invalid
from auterity_dagster.relaycore.bill_file import read_bill
from auterity_dagster.relaycore.reconciliation import BillLine, BookedCall, Correction, reconcile

DAY = date(2026, 11, 24)


def call(number: int, booked: int, *, request: str | None = None, unknown: bool = False, bound: int = 0) -> BookedCall:
    return BookedCall(UUID(int=number), request, DAY, frozenset({"mini"}), unknown, bound or booked, booked)


def line(cost: int, *, request: str | None = None, day: date | None = DAY, model: str | None = "mini") -> BillLine:
    return BillLine(request, day, model, cost)


def due(number: int, cost: int) -> Correction:
    return Correction(UUID(int=number), cost)


def test_equal_amounts_need_nothing() -> None:
    result = reconcile([line(5, request="a"), line(7, request="b")], [call(1, 5, request="a"), call(2, 7, request="b")])

    assert (result.corrections, result.differences, result.matched_lines) == ((), (), 2)


def test_a_request_costs_what_its_lines_say_in_sum() -> None:
    result = reconcile([line(5, request="a"), line(2, request="a")], [call(1, 5, request="a")])

    assert result.corrections == (due(1, 7),)


def test_an_unknown_call_is_settled_by_its_line_even_at_its_full_amount() -> None:
    result = reconcile([line(9, request="a")], [call(1, 9, request="a", unknown=True)])

    assert result.corrections == (due(1, 9),)


def test_an_unknown_call_that_a_complete_bill_does_not_name_cost_nothing() -> None:
    result = reconcile([line(5, request="a")], [call(1, 5, request="a"), call(2, 9, unknown=True)])

    assert result.corrections == (due(2, 0),)


def test_a_line_whose_request_was_never_heard_of_pays_for_an_unknown_call() -> None:
    result = reconcile([line(4, request="lost")], [call(2, 9, unknown=True)])

    assert (result.corrections, result.differences) == ((due(2, 4),), ())


def test_without_request_ids_unknown_calls_share_what_settled_ones_leave() -> None:
    calls = [call(1, 10), call(2, 100, unknown=True), call(3, 200, unknown=True)]

    result = reconcile([line(110)], calls)

    assert result.corrections == (due(2, 34), due(3, 66))


def test_a_bill_above_every_bound_is_a_difference() -> None:
    result = reconcile([line(500)], [call(1, 10), call(2, 100, unknown=True)])

    assert result.corrections == (due(2, 100),)
    assert [(one.kind, one.billed_nusd, one.booked_nusd) for one in result.differences] == [("above_bound", 500, 110)]


def test_another_day_or_model_is_left_alone() -> None:
    calls = [call(1, 100, unknown=True)]

    assert reconcile([line(5, day=date(2026, 11, 23))], calls).corrections == ()
    assert reconcile([line(5, model="large")], calls).corrections == ()


@given(st.lists(st.tuples(st.integers(0, 10**12), st.booleans()), min_size=1, max_size=20), st.integers(0, 10**12))
def test_the_shares_add_up_and_nobody_pays_more_than_its_bound(amounts: list[tuple[int, bool]], billed: int) -> None:
    calls = [call(number, amount, unknown=unknown) for number, (amount, unknown) in enumerate(amounts)]
    bounds = {one.hold_id: one.amount_nusd for one in calls}
    settled = sum(one.booked_nusd for one in calls if not one.is_unknown)
    room = sum(one.amount_nusd for one in calls if one.is_unknown)

    result = reconcile([line(billed)], calls)

    shared = sum(one.due_nusd for one in result.corrections)
    assert shared == min(max(billed - settled, 0), room)
    assert all(0 <= one.due_nusd <= bounds[one.hold_id] for one in result.corrections)
    assert (settled + shared == billed) == (not result.differences)


def test_bills_are_read_from_both_kinds_of_file() -> None:
    wanted = (BillLine("r1", DAY, "mini", 1_500_000_000), BillLine(None, DAY, "large", 2))

    as_csv = ["request_id,day,model,cost_usd", "r1,2026-11-24,mini,1.5", ",2026-11-24,large,0.000000002"]
    as_json = [
        '{"id": "r1", "date": "2026-11-24", "model": "mini", "cost_nusd": 1500000000}',
        "",
        '{"day": "2026-11-24", "model": "large", "cost_usd": "0.000000002"}',
    ]

    assert read_bill(as_csv, is_csv=True) == wanted
    assert read_bill(as_json, is_csv=False) == wanted


WRONG_LINES = [
    "nonsense",
    "[]",
    '{"cost_nusd": 5}',
    '{"id": "a"}',
    '{"id": "a", "cost_usd": 1.5}',
    '{"id": "a", "cost_nusd": 1.5}',
    '{"id": "a", "cost_usd": "0.0000000001"}',
    '{"id": "a", "cost_nusd": 1, "day": "yesterday"}',
]


@pytest.mark.parametrize("text", WRONG_LINES)
def test_a_line_that_cannot_be_read_is_named_and_not_quoted(text: str) -> None:
    with pytest.raises(Invalid, match="Line 1 of the bill") as refused:
        read_bill([text], is_csv=False)

    assert text not in refused.value.message
