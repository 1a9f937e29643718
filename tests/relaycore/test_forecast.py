"""What a window will have spent at its end: what is certain, what is drawn, and when nothing can be said."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from auterity_dagster.relaycore.budget import Period
from auterity_dagster.relaycore.forecast import Forecast, NoForecast, OpenWindow, begins, forecast

CHICAGO = ZoneInfo("America/Chicago")
NOW = datetime(2026, 11, 16, 12, tzinfo=CHICAGO)
CLOSES = datetime(2026, 12, 1, tzinfo=CHICAGO)
MONTH = OpenWindow(UUID(int=1), Period.MONTH, "America/Chicago", CLOSES, settled_nusd=5_000, cap_nusd=10_000)
LONG_AGO = NOW - timedelta(days=365)


def days(amounts: list[int]) -> dict[datetime, int]:
    """What was spent on the last whole days, yesterday last."""
    today = begins(NOW, "day", CHICAGO)
    return {today - timedelta(days=len(amounts) - place): amount for place, amount in enumerate(amounts)}


def said(window: OpenWindow, history: dict[datetime, int], known_from: datetime = LONG_AGO) -> Forecast:
    answer = forecast(window, history, known_from=known_from, now=NOW)
    assert isinstance(answer, Forecast)
    return answer


def test_spending_that_never_changes_is_forecast_exactly() -> None:
    # The clocks go back on 1 November: a day is one by the wall, whatever it lasts.
    history = {begins(NOW - timedelta(days=back), "day", CHICAGO): 200 for back in range(1, 60)}

    # Half of today and fourteen days more.
    assert said(MONTH, history) == Forecast(5_000 + 100 + 2_800, 7_900, 7_900, share_over_cap=0.0)


def test_a_closed_sunday_is_not_counted_as_a_day_of_work() -> None:
    history = {
        at: 0 if at.astimezone(CHICAGO).weekday() == 6 else 200
        for at in (begins(NOW - timedelta(days=back), "day", CHICAGO) for back in range(1, 60))
    }

    assert said(MONTH, history).high_nusd == 5_000 + 100 + 12 * 200


def test_spending_that_varies_has_an_interval_around_what_is_expected() -> None:
    answer = said(MONTH, days([0, 400] * 10), known_from=NOW - timedelta(days=20, hours=15))

    assert answer.low_nusd < 7_900 - 400 < 7_900 + 400 < answer.high_nusd
    assert abs(answer.expected_nusd - 7_900) < 300


def test_a_short_history_gives_a_wider_interval_than_a_long_one() -> None:
    short = said(MONTH, days([100, 300] * 4), known_from=NOW - timedelta(days=8, hours=15))
    long = said(MONTH, days([100, 300] * 28))

    assert short.high_nusd - short.low_nusd > long.high_nusd - long.low_nusd


def test_how_often_the_cap_is_not_enough_is_said() -> None:
    assert said(replace(MONTH, cap_nusd=7_899), days([200] * 56)).share_over_cap == 1.0
    assert said(replace(MONTH, cap_nusd=7_900), days([200] * 56)).share_over_cap == 0.0


def test_a_forecast_is_the_same_each_time() -> None:
    assert said(MONTH, days([0, 400] * 10)) == said(MONTH, days([0, 400] * 10))


def test_days_before_the_first_spending_are_not_taken_for_idle_ones() -> None:
    answer = forecast(MONTH, days([200] * 6), known_from=NOW - timedelta(days=6, hours=13), now=NOW)

    assert answer == NoForecast("6 whole days of spending are known; a forecast needs at least 7.")


@pytest.mark.parametrize("history", [{}, {NOW - timedelta(hours=2): 200}], ids=["nothing", "only today"])
def test_nothing_is_made_up_where_nothing_is_known(history: dict[datetime, int]) -> None:
    known_from = min(history, default=None)

    assert isinstance(forecast(MONTH, history, known_from=known_from, now=NOW), NoForecast)


def test_a_lifetime_has_no_end() -> None:
    endless = replace(MONTH, period=Period.LIFETIME, closes_at=None)

    assert isinstance(forecast(endless, days([200] * 56), known_from=LONG_AGO, now=NOW), NoForecast)


def test_a_day_is_forecast_from_hours() -> None:
    window = replace(MONTH, period=Period.DAY, closes_at=datetime(2026, 11, 17, tzinfo=CHICAGO), settled_nusd=0)
    history = {
        at: 60 if at.astimezone(CHICAGO).hour == 15 else 0
        for at in (begins(NOW - timedelta(hours=back), "hour", CHICAGO) for back in range(1, 24 * 14))
    }

    assert said(window, history).expected_nusd == 60


def test_a_closing_hour_counts_for_what_is_left_of_it() -> None:
    window = replace(MONTH, period=Period.HOUR, closes_at=NOW + timedelta(minutes=15), settled_nusd=0)
    history = {begins(NOW - timedelta(hours=back), "hour", CHICAGO): 400 for back in range(1, 24 * 15)}

    assert said(window, history).expected_nusd == 100


def test_the_beginning_of_a_day_is_the_walls() -> None:
    assert begins(NOW, "day", CHICAGO) == datetime(2026, 11, 16, 6, tzinfo=UTC)
    assert begins(datetime(2026, 10, 20, 12, tzinfo=UTC), "day", CHICAGO) == datetime(2026, 10, 20, 5, tzinfo=UTC)
