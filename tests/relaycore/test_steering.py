"""Steering: the cheapest deployment that is good enough, and a reason for every one that is not chosen."""

from dataclasses import replace
from datetime import date
from uuid import UUID, uuid4

import pytest

from auterity_dagster.errors import BudgetExceeded, Invalid, NoCandidate, NotFound, PriceUnknown
from auterity_dagster.relaycore.catalog import CatalogSnapshot, ServedDeployment, served_deployment
from auterity_dagster.relaycore.chat import Caller, ChatRequest
from auterity_dagster.relaycore.pricing import Price, Rates
from auterity_dagster.relaycore.quality import Quality
from auterity_dagster.relaycore.route import Considered, Route
from auterity_dagster.relaycore.steering import choose
from auterity_dagster.relaycore.steering_file import parse_policy

POLICY = """
schema_version: 2
name: test
defaults:
  objective: balanced
  max_output_tokens: 1000
  when_budget_short: refuse
  deadlines: {connect_s: 1, first_token_s: 5, idle_s: 5, total_s: 20}
  attempts: {max: 4, per_deployment: 2, max_cost_ratio: 50}
  breaker:
    {failures_in_a_row: 5, window_s: 30, min_calls: 20, failure_ratio: 0.5, slow_call_s: 20, open_s: 30, probes: 3}
deployments:
  - {id: big, provider: sandbox, model: big, price: big, region: us, credential: "secret://a", data_policy: [pii_ok],
     caps: {context_tokens: 100000, output_tokens: 8000, tools: true, json_schema: true, streaming: true}}
  - {id: small, provider: openai, model: small, price: small, region: us, credential: "secret://b",
     caps: {context_tokens: 4000, output_tokens: 500, streaming: true}}
  - {id: twin, provider: openai, model: twin, price: small, region: eu, credential: "secret://b",
     caps: {context_tokens: 100000, output_tokens: 8000, streaming: true}}
pools: {general: [big, small, twin], automotive: ["neuroweaver/*", big, small]}
objectives:
  balanced: {minimize: cost, subject_to: {quality_lcb: 0.7, cost_usd: "0.20"}}
  best: {maximize: quality}
rules:
  - {id: no-secrets, priority: 900, when: {features.task: {eq: secret}}, then: {reject: "Not here."}}
  - id: at-home
    priority: 800
    when: {features.task: {eq: private}}
    then: {pool: general, filter: {data_policy: {contains: pii_ok}}, final: true}
  - id: cars
    priority: 500
    when: {features.task: {in: [lead_reply]}}
    then: {pool: automotive, on_no_candidates: relax}
  - {id: short, priority: 400, when: {principal.purpose: {eq: judging}}, then: {set: {max_output_tokens: 200}}}
  - {id: default, priority: 0, when: always, then: {pool: general}}
"""
GOOD, POOR = Quality(46, 6), Quality(20, 32)


def price(key: str, *, input_nusd: int, output_nusd: int) -> Price:
    return Price(key, date(2026, 1, 1), (Rates(0, input_nusd, output_nusd, None, None, None),), f"digest-{key}", "test")


PRICES = {
    "big": price("big", input_nusd=4_000_000_000, output_nusd=20_000_000_000),
    "small": price("small", input_nusd=100_000_000, output_nusd=500_000_000),
    "own": price("own", input_nusd=74_000_000, output_nusd=530_000_000),
}
POLICY_READ = parse_policy(POLICY, source="test", prices=PRICES)


def served(*, weight_percent: int = 100, alias: str = "champion") -> ServedDeployment:
    return ServedDeployment(
        organization_id=uuid4(),
        deployment_id="neuroweaver/sales",
        artefact_digest="adapter-1",
        model="adapter:1",
        price_key="own",
        alias=alias,  # type: ignore[arg-type]
        weight_percent=weight_percent,
        gate_verdict_digest="verdict",
        context_tokens=2048,
        output_tokens=512,
        tasks=("lead_reply",),
    )


def snapshot(*, quality: dict[str, Quality] | None = None, own: ServedDeployment | None = None) -> CatalogSnapshot:
    deployments = {one.id: one.deployment() for one in POLICY_READ.deployments}
    if own is not None:
        deployments[served_deployment(own).id] = served_deployment(own)
    known = {("lead_reply", deployments[name].artefact_digest): value for name, value in (quality or {}).items()}
    known |= {("chat", digest): value for (_, digest), value in known.items()}
    return CatalogSnapshot(deployments=deployments, quality=known, prices=PRICES)


def request(**changes: object) -> ChatRequest:
    plain = ChatRequest(
        id=UUID(int=1),
        caller=Caller(uuid4(), uuid4(), None, "workflow"),
        model="auto",
        task="lead_reply",
        prompt_tokens_bound=400,
        prompt_tokens_estimate=100,
        max_tokens=96,
        is_stream=False,
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def ids(route: Route) -> list[str]:
    return [step.deployment.id for step in route.steps]


def removal(route: Route, deployment_id: str) -> str | None:
    [one] = [one for one in route.considered if one.deployment_id == deployment_id]
    return one.removed_by


def test_the_cheapest_that_is_good_enough_is_chosen() -> None:
    route = choose(POLICY_READ, request(), snapshot(quality={"big": GOOD, "small": GOOD}))

    assert ids(route) == ["small", "big"]


def test_one_that_is_not_good_enough_is_left_out_and_the_reason_is_said() -> None:
    route = choose(POLICY_READ, request(task="chat"), snapshot(quality={"big": GOOD, "small": POOR}))

    assert ids(route) == ["big"]
    assert removal(route, "small") == "quality: lower bound 0.277 is below 0.700"


def test_an_evaluated_specialised_model_takes_the_traffic() -> None:
    own = served()
    route = choose(POLICY_READ, request(), snapshot(own=own, quality={"big": GOOD, "neuroweaver/sales": GOOD}))

    assert ids(route)[0] == "neuroweaver/sales"


def test_a_specialised_model_answers_its_own_tasks_only() -> None:
    route = choose(
        POLICY_READ, request(model="pool/automotive", task="chat"), snapshot(own=served(), quality={"big": GOOD})
    )

    assert removal(route, "neuroweaver/sales") == "task: specialised for other tasks"


def test_without_any_evidence_a_relaxed_rule_takes_the_pools_first_and_says_degraded() -> None:
    route = choose(POLICY_READ, request(), snapshot())

    assert ids(route) == ["big", "small"]
    assert [step.is_degraded for step in route.steps] == [True, True]


def test_without_any_evidence_a_strict_rule_refuses() -> None:
    with pytest.raises(NoCandidate) as refused:
        choose(POLICY_READ, request(task="chat"), snapshot())

    assert "quality" in str(refused.value.details["removed"])


def test_a_deployment_asked_for_by_name_needs_no_evidence() -> None:
    assert ids(choose(POLICY_READ, request(model="small", task="chat"), snapshot())) == ["small"]


def test_a_callers_quality_floor_holds_even_where_the_rule_relaxes_and_is_the_callers_to_lower() -> None:
    with pytest.raises(Invalid) as refused:
        choose(POLICY_READ, request(quality_min=0.9), snapshot())

    assert (refused.value.code, refused.value.details["field"]) == ("quality_unavailable", "x-auterity-quality-min")


def test_a_prompt_that_fits_nowhere_is_too_long_and_not_an_outage() -> None:
    with pytest.raises(Invalid) as refused:
        choose(POLICY_READ, request(prompt_tokens_estimate=10**6), snapshot())

    assert refused.value.code == "context_length_exceeded"


def test_an_unavailable_deployment_is_no_candidate() -> None:
    known = replace(snapshot(quality={"big": GOOD, "small": GOOD}), unavailable={"small": "credential: none is set"})

    route = choose(POLICY_READ, request(), known)

    assert ids(route) == ["big"]
    assert removal(route, "small") == "credential: none is set"


def test_an_open_breaker_bars_a_deployment_but_never_the_last_one() -> None:
    known = snapshot(quality={"big": GOOD, "small": GOOD})

    barred = choose(POLICY_READ, request(), replace(known, breaker_open=frozenset({"small"})))
    last = choose(POLICY_READ, request(), replace(known, breaker_open=frozenset({"small", "big"})))

    assert ids(barred) == ["big"]
    assert ids(last)[0] == "small"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"has_tools": True}, "capability: no tools"),
        ({"needs_json": True}, "capability: no JSON schema"),
        ({"prompt_tokens_estimate": 3950}, "capability: context of 4000 tokens"),
        ({"max_tokens": 501}, "capability: output of 500 tokens"),
    ],
)
def test_what_a_deployment_cannot_do_removes_it(changes: dict[str, object], reason: str) -> None:
    route = choose(POLICY_READ, request(**changes), snapshot(quality={"big": GOOD, "small": GOOD}))

    assert ids(route) == ["big"]
    assert removal(route, "small") == reason


def test_a_rules_filter_holds_for_a_deployment_asked_for_by_name() -> None:
    with pytest.raises(NoCandidate):
        choose(POLICY_READ, request(model="small", task="private"), snapshot())


def test_a_rejecting_rule_answers_with_its_words() -> None:
    with pytest.raises(NoCandidate, match="Not here"):
        choose(POLICY_READ, request(task="secret"), snapshot())


def test_an_unknown_model_is_not_found() -> None:
    with pytest.raises(NotFound) as refused:
        choose(POLICY_READ, request(model="gpt-99"), snapshot())

    assert refused.value.code == "model_not_found"


def test_a_missing_price_refuses_the_call() -> None:
    with pytest.raises(PriceUnknown):
        choose(POLICY_READ, request(model="small"), replace(snapshot(), prices={}))


def test_the_callers_limit_counts_the_worst_case() -> None:
    known = snapshot(quality={"big": GOOD, "small": GOOD})

    cheap = choose(POLICY_READ, request(max_cost_nusd=100_000), known)

    assert ids(cheap) == ["small"]
    with pytest.raises(BudgetExceeded) as refused:
        choose(POLICY_READ, request(max_cost_nusd=1), known)
    assert refused.value.code == "max_cost_exceeded"


def test_the_hold_covers_the_whole_prompt_and_every_granted_token() -> None:
    [step] = choose(POLICY_READ, request(model="small", max_tokens=96), snapshot()).steps

    assert step.hold_nusd == 400 * 100 + 96 * 500


def test_a_rule_makes_the_output_limit_stricter_never_looser() -> None:
    judge = Caller(uuid4(), uuid4(), None, "judging")

    [long] = choose(POLICY_READ, request(model="big", caller=judge, max_tokens=900), snapshot()).steps
    [short] = choose(POLICY_READ, request(model="big", caller=judge, max_tokens=90), snapshot()).steps

    assert (long.max_tokens, short.max_tokens) == (200, 90)


def test_another_failure_domain_comes_first_among_the_fallbacks() -> None:
    known = snapshot(quality={"big": GOOD, "small": GOOD, "twin": GOOD})

    assert ids(choose(POLICY_READ, request(task="chat"), known)) == ["small", "big", "twin"]


def test_a_canary_answers_its_share_of_subjects_and_always_the_same_ones() -> None:
    known = snapshot(own=served(weight_percent=10), quality={"big": GOOD, "neuroweaver/sales": GOOD})
    subjects = [f"lead-{number}" for number in range(300)]

    def share() -> list[str]:
        return [one for one in subjects if ids(choose(POLICY_READ, request(subject=one), known))[0] != "big"]

    assert 15 <= len(share()) <= 45
    assert share() == share()


def test_one_that_is_in_the_shadow_answers_no_caller_not_even_one_who_names_it() -> None:
    known = snapshot(own=served(weight_percent=0, alias="challenger"), quality={"big": GOOD})
    challenger = "neuroweaver/sales@challenger"

    chosen = choose(POLICY_READ, request(), known)
    with pytest.raises(NoCandidate) as refused:
        choose(POLICY_READ, request(model=challenger), known)

    assert challenger not in ids(chosen)
    assert (removal(chosen, challenger) or "").startswith("shadow:")
    assert "shadow:" in str(refused.value.details["removed"])


def test_the_same_input_gives_the_same_route() -> None:
    one, known = request(), snapshot(quality={"big": GOOD, "small": GOOD})

    assert choose(POLICY_READ, one, known) == choose(POLICY_READ, one, known)


def test_every_deployment_of_the_pool_is_accounted_for() -> None:
    route = choose(POLICY_READ, request(), snapshot(own=served(), quality={"big": GOOD}))

    assert [one.deployment_id for one in route.considered] == ["neuroweaver/sales", "big", "small"]
    assert all(one.place is not None or one.removed_by is not None for one in route.considered)
    assert isinstance(route.considered[0], Considered)
