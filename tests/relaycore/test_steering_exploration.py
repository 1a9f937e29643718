"""What is tried, split and drawn: shares that are exact, chances that are known, and the same again in a replay."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import UUID

import orjson
import pytest

from auterity_dagster.relaycore.catalog import CatalogSnapshot
from auterity_dagster.relaycore.chat import Caller, ChatRequest
from auterity_dagster.relaycore.decision_record import catalog_document, inputs_document, restored, told
from auterity_dagster.relaycore.quality import Quality
from auterity_dagster.relaycore.route import Route
from auterity_dagster.relaycore.steering import choose
from auterity_dagster.relaycore.steering_catalog import routable
from auterity_dagster.relaycore.steering_file import read_policy
from auterity_dagster.relaycore.steering_policy import SteeringPolicy
from auterity_dagster.relaycore.steering_rules import decide
from auterity_dagster.relaycore.thompson import winning_shares
from tests.relaycore.test_steering import price

NAMES = ("surely_good", "maybe_better", "unknown", "surely_poor")
KNOWN = {"surely_good": Quality(46, 6), "maybe_better": Quality(5, 2), "surely_poor": Quality(10, 60)}
PRICES = {name: price(name, input_nusd=10**8 * (n + 1), output_nusd=10**9 * (n + 1)) for n, name in enumerate(NAMES)}
MANY = [UUID(int=number) for number in range(3000)]


def policy(then: dict[str, Any] | None = None, weights: dict[str, int] | None = None) -> SteeringPolicy:
    deployments = [
        {
            "id": name,
            "provider": "openai",
            "model": name,
            "price": name,
            "credential": "secret://a",
            "weight_percent": (weights or {}).get(name, 100),
            "caps": {"context_tokens": 10_000, "output_tokens": 1000, "streaming": True},
        }
        for name in NAMES
    ]
    deadlines = {"connect_s": 1, "first_token_s": 5, "idle_s": 5, "total_s": 20}
    breaker = {"failures_in_a_row": 5, "window_s": 30, "min_calls": 20, "failure_ratio": 0.5, "slow_call_s": 20}
    document = {
        "schema_version": 2,
        "name": "test",
        "defaults": {
            "objective": "cheap",
            "max_output_tokens": 100,
            "deadlines": deadlines,
            "attempts": {"max": 4, "per_deployment": 2, "max_cost_ratio": 50},
            "breaker": {**breaker, "open_s": 30, "probes": 3},
        },
        "deployments": deployments,
        "pools": {"all": list(NAMES)},
        "objectives": {"cheap": {"minimize": "cost", "subject_to": {"quality_lcb": 0.7}}},
        "rules": [{"id": "default", "priority": 0, "when": "always", "then": {"pool": "all", **(then or {})}}],
    }
    return read_policy(json.dumps(document), source="test")


EXPLORING = policy({"explore": True})


def snapshot(of: SteeringPolicy) -> CatalogSnapshot:
    deployments, _ = routable(of, {}, {})
    known = {("chat", deployments[name].artefact_digest): one for name, one in KNOWN.items()}
    return CatalogSnapshot(deployments=deployments, quality=known, prices=PRICES)


def request(request_id: UUID, **changes: Any) -> ChatRequest:
    caller = Caller(UUID(int=1), UUID(int=2), None, "workflow")
    plain = ChatRequest(request_id, caller, "auto", "chat", 400, 100, 50, is_stream=False)
    return replace(plain, **changes)


def routes(of: SteeringPolicy, **changes: Any) -> list[Route]:
    seen = snapshot(of)
    return [choose(of, request(one, **changes), seen) for one in MANY]


def first(route: Route) -> str:
    return route.steps[0].deployment.id


def chances_are_true(found: list[Route], told_chance: Callable[[Route], float]) -> bool:
    """True if every deployment came first as often as the decisions say, within four standard deviations."""
    for name, count in Counter(map(first, found)).items():
        [chance] = {told_chance(route) for route in found if first(route) == name}
        if abs(count / len(found) - chance) > 4 * (chance * (1 - chance) / len(found)) ** 0.5:
            return False
    return True


def test_at_most_three_percent_are_tried_only_where_they_may_be_good_and_with_the_chance_that_is_logged() -> None:
    found = routes(EXPLORING)

    names = Counter(map(first, found))
    assert set(names) == {"surely_good", "maybe_better", "unknown"}
    assert names.total() - names["surely_good"] <= 0.04 * len(found)
    assert chances_are_true(found, lambda route: route.propensity or 0)
    assert not chances_are_true(found, lambda route: 1.0), "the control: chances of a choice without a draw"
    for route in found:
        assert route.steps[0].is_explored is (first(route) != "surely_good")
        assert first(route) == "surely_good" or route.steps[1].deployment.id == "surely_good"


@pytest.mark.parametrize(
    "changes",
    [
        {"metadata": {"data_class": "restricted"}},
        {"pii": ("ssn",)},
        {"model": "surely_good"},
        {"quality_min": 0.75},
    ],
    ids=["restricted", "personal", "named", "demanding"],
)
def test_what_is_restricted_named_or_demanded_is_never_tried_with(changes: dict[str, Any]) -> None:
    found = routes(EXPLORING, **changes)

    assert {first(route) for route in found} == {"surely_good"}
    assert not any(route.steps[0].is_explored for route in found)


def test_without_the_rules_consent_nothing_is_drawn() -> None:
    assert {(first(route), route.propensity) for route in routes(policy())} == {("surely_good", None)}


def test_a_stored_decision_draws_the_same_again_and_the_draw_is_made_from_what_is_stored() -> None:
    seen = snapshot(EXPLORING)
    explored = [one for one in MANY if choose(EXPLORING, request(one), seen).steps[0].is_explored]
    assert len(explored) >= 10

    for one in explored:
        made = choose(EXPLORING, request(one), seen)
        inputs = orjson.loads(orjson.dumps(inputs_document(EXPLORING, request(one), seen)))
        catalog = orjson.loads(orjson.dumps(catalog_document(seen)))
        assert choose(EXPLORING, *restored(inputs, catalog)) == made
        assert told(made)["propensity"] == made.propensity
    others = [choose(EXPLORING, request(UUID(int=one.int + 10**9)), seen) for one in explored]
    assert not all(route.steps[0].is_explored for route in others), "the control: another seed draws otherwise"


def test_the_restriction_is_stored_although_no_rule_asks_about_it() -> None:
    seen = snapshot(EXPLORING)
    restricted = [request(one, metadata={"data_class": "restricted"}) for one in MANY]
    drawn = next(one for one in restricted if choose(EXPLORING, replace(one, metadata={}), seen).steps[0].is_explored)

    inputs = inputs_document(EXPLORING, drawn, seen)

    assert choose(EXPLORING, *restored(orjson.loads(orjson.dumps(inputs)), catalog_document(seen))) == choose(
        EXPLORING, drawn, seen
    )


def test_chances_of_equal_posteriors_are_equal_and_a_better_one_has_a_larger_chance() -> None:
    even = winning_shares((Quality(8, 3), Quality(8, 3), Quality(8, 3)))
    better, worse = winning_shares((Quality(30, 5), Quality(20, 15)))

    assert all(abs(one - 1 / 3) < 1e-9 for one in even)
    assert better > 0.95 > worse
    assert abs(better + worse - 1) < 1e-12


def test_weights_split_a_pool_exactly_and_each_subject_keeps_its_arm() -> None:
    halves = policy(weights={"surely_good": 50, "maybe_better": 50})
    good = snapshot(halves)
    evidence = {**good.quality, ("chat", good.deployments["maybe_better"].artefact_digest): Quality(46, 6)}
    good = replace(good, quality=evidence)

    found = [choose(halves, request(one, subject=f"lead-{one.int % 500}"), good) for one in MANY]

    names = Counter(map(first, found))
    assert set(names) == {"surely_good", "maybe_better"}
    assert {route.propensity for route in found} == {0.5}
    assert abs(names["surely_good"] / len(found) - 0.5) < 0.1
    by_subject = {(index % 500, first(route)) for index, route in enumerate(found)}
    assert len(by_subject) == 500


def test_a_canary_that_grows_keeps_its_subjects_and_the_rest_know_their_chance() -> None:
    small, large = policy(weights={"surely_good": 5}), policy(weights={"surely_good": 25})
    evidence = {("chat", "provider:openai/unknown"): Quality(46, 6)}

    def served_by_the_canary(of: SteeringPolicy) -> set[UUID]:
        seen = snapshot(of)
        seen = replace(seen, quality={**seen.quality, **evidence})
        found = {one: choose(of, request(one), seen) for one in MANY}
        weight = seen.deployments["surely_good"].weight_percent / 100
        assert {(first(route), route.propensity) for route in found.values()} == {
            ("surely_good", weight),
            ("unknown", 1 - weight),
        }
        return {one for one, route in found.items() if first(route) == "surely_good"}

    few, many = served_by_the_canary(small), served_by_the_canary(large)

    assert few < many
    assert abs(len(few) / len(MANY) - 0.05) < 0.015
    assert abs(len(many) / len(MANY) - 0.25) < 0.03


def test_an_arm_that_is_not_good_enough_serves_nobody_and_takes_no_share() -> None:
    found = routes(policy(weights={"surely_poor": 40}))

    assert {(first(route), route.propensity) for route in found} == {("surely_good", 1.0)}


def test_the_allowance_is_that_of_the_rule_which_names_it_and_not_of_the_one_that_decides() -> None:
    shadow = {"deployment": "unknown", "share": 0.5, "max_usd_per_day": "5.00"}
    text = json.loads(policy({"shadow": {**shadow, "max_usd_per_day": "1.00"}}).text)
    for name, priority in (("first", 2), ("second", 1)):
        then = {"shadow": shadow, "explore": True}
        text["rules"].append(
            {"id": name, "priority": priority, "when": {"features.task": {"eq": "chat"}}, "then": then}
        )
    of = read_policy(json.dumps(text), source="test")

    asked = choose(of, request(MANY[0]), snapshot(of)).decision
    other = decide(of, {"features.task": "mail"})

    assert (asked.rule, asked.shadow_rule, asked.exploration_rule) == ("default", "first", "first")
    assert (other.rule, other.shadow_rule, other.exploration_rule) == ("default", "default", None)
