"""GCRA in one process: a minute's worth at once, then the rate; all buckets or none."""

from uuid import uuid4

import pytest

from auterity_dagster.errors import RateLimited
from auterity_dagster.relaycore.chat import Caller
from auterity_dagster.relaycore.rate_limit import Bucket, LocalBuckets, RateLimit, buckets_of

REQUESTS = Bucket("organization", uuid4(), "requests", 60)
TOKENS = Bucket("key", uuid4(), "tokens", 600)


class Time:
    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


def admits(buckets: LocalBuckets, *wanted: tuple[Bucket, int], live: int = 1) -> bool:
    try:
        buckets.admit(wanted, live=live)
    except RateLimited:
        return False
    return True


def test_a_minutes_worth_may_come_at_once_and_then_one_each_interval() -> None:
    time = Time()
    buckets = LocalBuckets(time)

    assert [admits(buckets, (REQUESTS, 1)) for _ in range(61)] == [True] * 60 + [False]
    time.now_s += 1
    assert [admits(buckets, (REQUESTS, 1)) for _ in range(2)] == [True, False]


def test_a_refusal_says_when_to_come_back_and_takes_from_no_bucket() -> None:
    buckets = LocalBuckets(Time())
    buckets.admit([(TOKENS, 590)], live=1)

    with pytest.raises(RateLimited) as refused:
        buckets.admit([(REQUESTS, 1), (TOKENS, 30)], live=1)

    assert refused.value.details["retry_after_s"] == 2
    assert buckets.admit([(REQUESTS, 1)], live=1)[0].remaining == 59


def test_processes_share_a_limit() -> None:
    buckets = LocalBuckets(Time())

    assert [admits(buckets, (REQUESTS, 1), live=4) for _ in range(16)] == [True] * 15 + [False]


def test_a_share_of_nothing_admits_nothing() -> None:
    assert not admits(LocalBuckets(Time()), (Bucket("key", uuid4(), "requests", 2), 1), live=3)


def test_what_the_shared_count_let_through_leaves_no_second_burst() -> None:
    time = Time()
    buckets = LocalBuckets(time)
    for _ in range(100):
        buckets.note([(REQUESTS, 1)], live=1)

    assert not admits(buckets, (REQUESTS, 1))
    time.now_s += 1
    assert admits(buckets, (REQUESTS, 1))


def test_a_caller_draws_from_its_key_its_dealership_and_its_organization() -> None:
    organization_id, dealership_id, key_id = uuid4(), uuid4(), uuid4()
    limits = {
        organization_id: RateLimit("organization", organization_id, 1, 2),
        dealership_id: RateLimit("dealership", dealership_id, 3, None),
        key_id: RateLimit("key", key_id, None, 4),
        uuid4(): RateLimit("key", uuid4(), 5, 6),
    }
    caller = Caller(organization_id=organization_id, key_id=key_id, dealership_id=dealership_id, purpose="workflow")

    assert sorted(bucket.limit for bucket in buckets_of(limits, caller)) == [1, 2, 3, 4]
