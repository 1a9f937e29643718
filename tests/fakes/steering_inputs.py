"""Generated policies, requests and snapshots, wide enough that every part of a choice is at work somewhere."""

import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

from hypothesis import strategies as st

from auterity_dagster.errors import AuterityError
from auterity_dagster.relaycore.catalog import BudgetRoom, CatalogSnapshot
from auterity_dagster.relaycore.chat import Caller, ChatRequest
from auterity_dagster.relaycore.live import LatencySketch, Live
from auterity_dagster.relaycore.predicted_quality import PredictedQuality, QualityPrediction
from auterity_dagster.relaycore.pricing import Price, Rates
from auterity_dagster.relaycore.quality import Quality
from auterity_dagster.relaycore.route import Route
from auterity_dagster.relaycore.steering import choose
from auterity_dagster.relaycore.steering_catalog import routable
from auterity_dagster.relaycore.steering_file import read_policy
from auterity_dagster.relaycore.steering_policy import SteeringPolicy

IDS = ("d0", "d1", "d2", "d3")
TASKS = ("lead_reply", "chat")
START = datetime(2026, 1, 1, tzinfo=UTC)
CALLER = Caller(UUID(int=1), UUID(int=2), UUID(int=3), "workflow", UUID(int=4))

shares = st.floats(0, 1).map(lambda share: round(share, 4))
mostly = st.sampled_from((True, True, True, False))
dollars = st.integers(1, 10**9).map(lambda nusd: f"0.{nusd:09d}")


def outcome(policy: SteeringPolicy, request: ChatRequest, snapshot: CatalogSnapshot) -> Route | tuple[str, str]:
    """Return the route, or what refused it."""
    try:
        return choose(policy, request, snapshot)
    except AuterityError as error:
        return type(error).__name__, repr((error.code, error.details))


def leaves() -> st.SearchStrategy[dict[str, Any]]:
    return st.one_of(
        st.sampled_from(TASKS).map(lambda task: {"features.task": {"eq": task}}),
        st.integers(0, 5000).map(lambda tokens: {"features.prompt_tokens": {"lt": tokens}}),
        st.booleans().map(lambda flag: {"request.stream": {"eq": flag}}),
        shares.map(lambda share: {"budget.used_ratio": {"gte": share}}),
        st.integers(0, 23).map(lambda hour: {"time.hour": {"lte": hour}}),
        st.sampled_from(("restricted", "open")).map(lambda label: {"metadata.data_class": {"eq": label}}),
        st.just({"guardrail.pii": {"in": ["ssn"]}}),
        st.just({"features.language": {"exists": True}}),
    )


def conditions() -> st.SearchStrategy[dict[str, Any]]:
    return st.recursive(
        leaves(),
        lambda inner: st.one_of(
            st.lists(inner, min_size=1, max_size=3).map(lambda members: {"all": members}),
            st.lists(inner, min_size=1, max_size=3).map(lambda members: {"any": members}),
            inner.map(lambda one: {"not": one}),
        ),
        max_leaves=4,
    )


@st.composite
def effects(draw: st.DrawFn) -> dict[str, Any]:
    destination = draw(
        st.sampled_from(({"pool": "all"}, {"pool": "some", "on_no_candidates": "relax"}, {"deployment": "d1"}, {}))
    )
    extra = draw(
        st.fixed_dictionaries(
            {},
            optional={
                "objective": st.sampled_from(("cheap", "best")),
                "filter": st.sampled_from(({"region": {"in": ["us"]}}, {"data_policy": {"contains": "pii_ok"}})),
                "set": st.fixed_dictionaries({"max_output_tokens": st.integers(1, 500)}),
                "cache": st.just({"mode": "exact", "ttl_s": 60}),
                "explore": st.just(True),
                "shadow": st.just({"deployment": "d2", "share": 0.1, "max_usd_per_day": "1.00"}),
                "final": st.booleans(),
            },
        )
    )
    return {**destination, **extra} or {"final": False}


@st.composite
def policies(draw: st.DrawFn) -> SteeringPolicy:
    deployments = [
        {
            "id": name,
            "provider": draw(st.sampled_from(("openai", "anthropic", "sandbox"))),
            "model": name,
            "price": name,
            "region": draw(st.sampled_from(("us", "eu"))),
            "credential": "secret://a",
            "data_policy": draw(st.sampled_from(([], ["pii_ok"]))),
            "weight_percent": draw(st.sampled_from((100, 100, 50))),
            "caps": {
                "context_tokens": draw(st.integers(6000, 100_000)),
                "output_tokens": draw(st.integers(500, 8000)),
                "streaming": draw(mostly),
                "tools": draw(mostly),
                "prompt_cache": draw(st.sampled_from(("none", "automatic", "explicit"))),
            },
        }
        for name in IDS
    ]
    rules = [
        {"id": f"r{number}", "priority": number + 1, "when": draw(conditions()), "then": draw(effects())}
        for number in range(draw(st.integers(0, 4)))
    ]
    english = {"features.language": {"exists": True}}
    rules.append({"id": "english", "priority": 99, "when": english, "then": {"set": {"max_output_tokens": 9000}}})
    last = {"pool": "all", "on_no_candidates": draw(st.sampled_from(("reject", "relax")))}
    limits = {
        "quality_lcb": draw(st.sampled_from((0.0, 0.0, 0.3))),
        "late_probability": draw(shares),
        "latency_ms": 1000,
    }
    document = {
        "schema_version": 2,
        "name": "generated",
        "defaults": {
            "objective": "cheap",
            "max_output_tokens": draw(st.integers(1, 2000)),
            "at_budget_percent": {50: "notify", 80: "best"},
            "time_zone": draw(st.sampled_from(("UTC", "America/Chicago"))),
            "predictor": draw(st.sampled_from(("choose", "choose", "watch", "off"))),
            "deadlines": {"connect_s": 1, "first_token_s": 5, "idle_s": 5, "total_s": 20},
            "attempts": {"max": 4, "per_deployment": 2, "max_cost_ratio": draw(st.sampled_from((1.5, 200)))},
            "breaker": {
                "failures_in_a_row": 5, "window_s": 30, "min_calls": 20, "failure_ratio": 0.5, "slow_call_s": 20,
                "open_s": 30, "probes": 3,
            },
        },
        "deployments": deployments,
        "pools": {"all": draw(st.permutations(IDS)), "some": draw(st.permutations(IDS))[:3]},
        "objectives": {
            "cheap": {"minimize": "cost", "subject_to": draw(st.sampled_from(({}, limits)))},
            "best": {"maximize": "quality", "subject_to": {"cost_usd": "0.50"}},
        },
        "tasks": {"lead_reply": {"repair_usd": draw(dollars)}},
        "rules": [*rules, {"id": "default", "priority": 0, "when": "always", "then": last}],
    }  # fmt: skip
    return read_policy(json.dumps(document), source="generated")


@st.composite
def requests(draw: st.DrawFn) -> ChatRequest:
    tokens = draw(st.integers(1, 6000))
    return ChatRequest(
        id=UUID(int=draw(st.integers(0, 2**64))),
        caller=CALLER,
        model=draw(st.sampled_from(("auto", "auto", "auto", "auto/best", "pool/all", "d0", "nothing"))),
        task=draw(st.sampled_from((*TASKS, None))),
        prompt_tokens_bound=tokens * 4,
        prompt_tokens_estimate=tokens,
        max_tokens=draw(st.one_of(st.none(), st.integers(1, 900))),
        is_stream=not draw(mostly),
        has_tools=draw(st.sampled_from((False, False, False, True))),
        quality_min=draw(st.sampled_from((None,) * 7 + (0.2,))),
        max_cost_nusd=draw(st.sampled_from((None,) * 3 + (10**5,))),
        timeout_s=draw(st.one_of(st.none(), st.floats(0.1, 60))),
        subject=draw(st.one_of(st.none(), st.sampled_from(("a", "b", "c")))),
        received_at=draw(st.integers(0, 365 * 24 * 60).map(lambda minutes: START + timedelta(minutes=minutes))),
        language=draw(st.sampled_from((None, "en"))),
        is_untrusted=draw(st.booleans()),
        metadata=draw(st.sampled_from(({}, {"data_class": "restricted"}))),
        pii=draw(st.sampled_from((None, (), ("ssn", "phone")))),
        prefix_digest=draw(st.sampled_from((None, "p"))),
        prefix_tokens=draw(st.integers(0, 6000)),
    )


@st.composite
def snapshots(draw: st.DrawFn, policy: SteeringPolicy, task: str | None) -> CatalogSnapshot:
    deployments, _ = routable(policy, {}, {})
    some = st.sets(st.sampled_from(IDS), max_size=2)
    one_or_none = st.sampled_from((frozenset[str](), frozenset[str](), frozenset({"d0"}), frozenset({"d3"})))
    rate = st.integers(1, 10**9)
    # The same rates for all but one: a warm prompt cache decides between deployments that cost about the same.
    rates = Rates(0, draw(rate), draw(rate), draw(st.one_of(st.none(), rate)), draw(rate), None)
    other = Rates(0, draw(rate), draw(rate), None, None, None)
    unpriced = draw(one_or_none)
    prices = {
        name: Price(name, date(2026, 1, 1), (other if name == "d0" else rates,), f"digest-{name}", "generated")
        for name in IDS
        if name not in unpriced
    }
    quality = {
        (one_task, f"provider:{deployments[name].provider}/{name}"): Quality(
            draw(st.floats(1, 60)), draw(st.floats(1, 60))
        )
        for one_task in TASKS
        for name in draw(some)
    }
    counts = st.lists(st.integers(0, 40), min_size=24, max_size=30).map(lambda made: (*made, 1))
    live = Live(
        latency={name: LatencySketch(draw(counts)) for name in IDS},
        failed_share={name: draw(st.floats(0.001, 1)) for name in draw(some)},
        load={name: draw(st.integers(1, 9)) for name in IDS},
        output_tokens={task or "": {name: draw(st.integers(1, 900)) for name in draw(some)}},
        warm=frozenset(draw(some)),
    )
    budgets = tuple(
        BudgetRoom(scope, value, draw(st.booleans()), 10**10, draw(st.sampled_from((0, 10**9, 6 * 10**9, 10**10))))
        for scope, value in (("organization", str(UUID(int=1))), ("purpose", "workflow"), ("deployment", "d1"))
        if draw(st.booleans())
    )
    return CatalogSnapshot(
        deployments=deployments,
        quality=quality,
        prices=prices,
        unavailable=dict.fromkeys(draw(one_or_none), "credential: none is set"),
        breaker_open=frozenset(draw(one_or_none)),
        budgets=budgets,
        live=live,
        predictions=draw(predictions([one.artefact_digest for one in deployments.values()])),
    )


@st.composite
def predictions(draw: st.DrawFn, digests: list[str]) -> tuple[QualityPrediction, ...]:
    """One predictor that may choose, or one that watches, or both, or none."""
    word = st.tuples(shares, shares).map(lambda two: PredictedQuality(mean=max(two), lower_bound=min(two)))
    may_choose = draw(st.sampled_from(((), (True,), (False,), (False, True))))
    return tuple(
        QualityPrediction(f"p{number}", draw(mostly), may, draw(st.dictionaries(st.sampled_from(digests), word)))
        for number, may in enumerate(may_choose)
    )


@st.composite
def decisions(draw: st.DrawFn) -> tuple[SteeringPolicy, ChatRequest, CatalogSnapshot]:
    policy, request = draw(policies()), draw(requests())
    request = request if policy.metadata_names else ChatRequest(**{**_fields(request), "metadata": {}})
    snapshot = draw(snapshots(policy, request.task))
    is_tied = draw(st.sampled_from((False, False, True)))
    return policy, request, tied(snapshot, request.task) if is_tied else snapshot


def tied(snapshot: CatalogSnapshot, task: str | None) -> CatalogSnapshot:
    """The same where all that is left to tell the deployments apart is their load: chance alone hardly makes that."""
    tiers = next((price.tiers for price in snapshot.prices.values()), ())
    live = replace(snapshot.live, failed_share={}, output_tokens={task or "": dict.fromkeys(IDS, 20)}, warm=frozenset())
    prices = {name: replace(price, tiers=tiers) for name, price in snapshot.prices.items()}
    return replace(snapshot, prices=prices, quality={}, unavailable={}, breaker_open=frozenset(), live=live)


def _fields(request: ChatRequest) -> dict[str, Any]:
    return {name: getattr(request, name) for name in ChatRequest.__dataclass_fields__}
