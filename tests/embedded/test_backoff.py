from auterity_dagster.embedded.backoff import Backoff

BACKOFF = Backoff(first_s=0.5, limit_s=30.0, forgiven_after_s=60.0)


def test_each_failure_in_a_row_doubles_the_wait_up_to_the_limit() -> None:
    assert [BACKOFF.delay_s(failures) for failures in range(1, 9)] == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]


def test_a_thousand_failures_still_have_a_wait() -> None:
    assert BACKOFF.delay_s(1000) == 30.0


def test_a_process_that_was_healthy_for_long_begins_anew() -> None:
    assert BACKOFF.failures_after(7, healthy_s=60.0) == 1


def test_a_process_that_died_soon_counts_on() -> None:
    assert BACKOFF.failures_after(7, healthy_s=59.9) == 8
