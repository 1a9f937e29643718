"""The breaker leaves a failing deployment alone, and comes back by probes."""

from auterity_dagster.relaycore.circuit import Breaker, BreakerLimits

LIMITS = BreakerLimits(
    failures_in_a_row=3, window_s=30, min_calls=10, failure_ratio=0.5, slow_call_s=5, open_s=30, probes=2
)


class Time:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def breaker(time: Time) -> Breaker:
    return Breaker(LIMITS, now=time, spread=lambda: 0.0)


def failing(one: Breaker, times: int) -> None:
    for _ in range(times):
        one.started()
        one.failed()


def test_it_opens_after_failures_in_a_row() -> None:
    one = breaker(Time())

    failing(one, 3)

    assert one.is_open


def test_a_success_between_them_keeps_it_closed() -> None:
    one = breaker(Time())

    failing(one, 2)
    one.succeeded(took_s=0.1)
    failing(one, 2)

    assert not one.is_open


def test_half_of_the_calls_failing_opens_it() -> None:
    one = breaker(Time())

    for _ in range(5):
        one.succeeded(took_s=0.1)
        one.failed()

    assert one.is_open


def test_slow_answers_count_as_failures_of_the_window() -> None:
    one = breaker(Time())

    for _ in range(10):
        one.succeeded(took_s=9)

    assert one.is_open


def test_old_calls_leave_the_window() -> None:
    time = Time()
    one = breaker(time)

    for _ in range(9):
        one.succeeded(took_s=9)
    time.now_s += 31
    one.succeeded(took_s=9)

    assert not one.is_open


def test_a_rate_limit_says_nothing_about_health() -> None:
    one = breaker(Time())

    for _ in range(20):
        one.started()
        one.ended_without_verdict()

    assert not one.is_open


def test_after_its_time_only_the_probes_get_through() -> None:
    time = Time()
    one = breaker(time)
    failing(one, 3)
    time.now_s += 31

    before = one.is_open
    one.started()
    one.started()

    assert (before, one.is_open) == (False, True)


def test_good_probes_close_it() -> None:
    time = Time()
    one = breaker(time)
    failing(one, 3)
    time.now_s += 31

    for _ in range(2):
        one.started()
        one.succeeded(took_s=0.1)
    failing(one, 2)

    assert not one.is_open


def test_a_bad_probe_opens_it_anew() -> None:
    time = Time()
    one = breaker(time)
    failing(one, 3)
    time.now_s += 31

    failing(one, 1)

    assert one.is_open
