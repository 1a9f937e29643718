"""What a process sees of its deployments: bounded, fading, and told as a frozen view."""

from uuid import UUID, uuid4

from auterity_dagster.relaycore.live import MIN_SAMPLES, LatencySketch, LiveFacts, Observation

OURS, THEIRS = uuid4(), uuid4()
IDS = {"a": None, "b": None}


class Clock:
    def __init__(self) -> None:
        self.at_s = 1000.0

    def __call__(self) -> float:
        return self.at_s


def seen(*, deployment_id: str = "a", organization_id: UUID = OURS, ms: int = 100, **changes: object) -> Observation:
    values = {"task": "chat", "is_failure": False, "completion_tokens": 40, "prefix_digest": None, **changes}
    return Observation(organization_id=organization_id, deployment_id=deployment_id, latency_ms=ms, **values)  # type: ignore[arg-type]


def test_the_share_of_slow_answers_is_told() -> None:
    facts = LiveFacts(now=Clock())
    for number in range(100):
        facts.ended(seen(ms=10_000 if number < 25 else 100))

    sketch = facts.view(OURS, deployment_ids=IDS, prefix_digest=None).latency["a"]

    assert sketch.share_above(1_000) == 0.25
    assert sketch.share_above(20_000) == 0
    assert sketch.share_above(10) == 1


def test_a_few_answers_say_nothing_of_lateness() -> None:
    assert LatencySketch((0, 0, 0, MIN_SAMPLES - 1)).share_above(1) == 0


def test_failures_load_and_lengths_are_told_by_deployment() -> None:
    facts = LiveFacts(now=Clock())
    for _ in range(MIN_SAMPLES):
        facts.began("a")
        facts.ended(seen())
    facts.began("b")
    facts.ended(seen(deployment_id="b", is_failure=True))
    facts.began("b")

    live = facts.view(OURS, deployment_ids=IDS, prefix_digest=None)

    assert live.failed_share == {"a": 0.0, "b": 1 / 11}
    assert live.load == {"b": 1}
    assert live.output_tokens == {"chat": {"a": 40}}


def test_nothing_of_another_organization_is_told() -> None:
    facts = LiveFacts(now=Clock())
    for _ in range(MIN_SAMPLES):
        facts.ended(seen(organization_id=THEIRS, task="their_task", prefix_digest="p"))

    live = facts.view(OURS, deployment_ids=IDS, prefix_digest="p")

    assert live.output_tokens == {}
    assert live.warm == frozenset()


def test_a_prompts_beginning_stays_warm_for_five_minutes() -> None:
    clock = Clock()
    facts = LiveFacts(now=clock)
    facts.ended(seen(prefix_digest="p"))

    warm = facts.view(OURS, deployment_ids=IDS, prefix_digest="p").warm
    clock.at_s += 301
    cold = facts.view(OURS, deployment_ids=IDS, prefix_digest="p").warm

    assert (warm, cold) == ({"a"}, frozenset())


def test_a_deployment_that_was_slow_is_tried_again_after_some_minutes() -> None:
    clock = Clock()
    facts = LiveFacts(now=clock)
    for _ in range(100):
        facts.ended(seen(ms=10_000))

    before = facts.view(OURS, deployment_ids=IDS, prefix_digest=None).latency["a"].share_above(1_000)
    clock.at_s += 601
    after = facts.view(OURS, deployment_ids=IDS, prefix_digest=None).latency["a"].share_above(1_000)

    assert (before, after) == (1.0, 0.0)


def test_the_callers_own_fault_says_nothing_of_the_deployment() -> None:
    facts = LiveFacts(now=Clock())
    facts.began("a")
    facts.ended(seen(is_failure=None))

    live = facts.view(OURS, deployment_ids=IDS, prefix_digest=None)

    assert (live.failed_share, live.load) == ({}, {})
