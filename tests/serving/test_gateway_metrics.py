"""What an operator sees of a gateway: metrics whose labels nobody can add to, and nothing of what callers wrote."""

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from auterity_dagster.embedded.ports import free_port
from auterity_dagster.serving.relaycore.metrics import OTHER, Bounded, Metrics
from tests.conftest import DatabaseUrls
from tests.fakes.gateway_stack import Stack, running_stack
from tests.fakes.ledger_requests import make_budget

CANARY = "canary-8d1f0c"


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
async def stack(database_urls: DatabaseUrls, redis_url: str, tmp_path: Path, port: int) -> AsyncIterator[Stack]:
    async with running_stack(database_urls, redis_url, tmp_path, gateway_metrics_port=port) as stack:
        yield stack


async def scraped(port: int, path: str = "/metrics") -> httpx.Response:
    async with httpx.AsyncClient() as client:
        return await client.get(f"http://127.0.0.1:{port}{path}")


def samples(text: str) -> dict[tuple[str, tuple[str, ...]], float]:
    """Every sample by its name and the values of its labels, in the order of their names."""
    return {
        (sample.name, tuple(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_calls_attempts_tokens_and_money_are_counted(stack: Stack, port: int) -> None:
    for body in ({}, {"stream": True}):
        await stack.ask(body)
    await stack.closed_holds(2)

    seen = samples((await scraped(port)).text)

    billed = sum(line["cost_nusd"] for line in await stack.bill())
    assert seen["auterity_relaycore_requests_total", ("sandbox-small", "ok", "openai")] == 2
    assert seen["auterity_relaycore_attempts_total", ("ok", "sandbox-small")] == 2
    assert seen["auterity_relaycore_cost_nusd_total", ("sandbox-small", "workflow")] == billed
    assert seen["auterity_relaycore_first_token_seconds_count", ("sandbox-small",)] == 1
    assert seen["auterity_relaycore_hold_wait_seconds_count", ()] == 2
    assert seen["auterity_relaycore_settlements_waiting", ()] == 0


async def test_refusals_are_counted_wherever_they_happen(stack: Stack, port: int) -> None:
    await make_budget(stack.database, stack.organization_id, cap_nusd=1)
    await stack.ask({})
    await stack.ask({"messages": []})

    seen = samples((await scraped(port)).text)

    assert seen["auterity_relaycore_budget_refused_total", ("organization",)] == 1
    assert seen["auterity_relaycore_requests_total", (OTHER, "budget_exceeded", "openai")] == 1
    assert seen["auterity_relaycore_requests_total", (OTHER, "invalid_request", OTHER)] == 1


async def test_nothing_that_callers_write_becomes_a_label(stack: Stack, port: int) -> None:
    for number in range(20):
        hostile = f"{CANARY}-{number}"
        await stack.ask(
            {"model": hostile, "messages": [{"role": "user", "content": hostile}]},
            **{"x-auterity-task": f"canary_{number}", "x-auterity-purpose": hostile, "x-auterity-subject": hostile},
        )
        await stack.ask({"model": hostile}, **{"x-auterity-task": f"canary_{number}"})

    text = (await scraped(port)).text

    assert "canary" not in text
    assert str(stack.organization_id) not in text
    assert samples(text)["auterity_relaycore_requests_total", (OTHER, "model_not_found", "openai")] == 20


async def test_the_operators_port_tells_health_and_readiness(stack: Stack, port: int) -> None:
    assert (await scraped(port, "/healthz")).json() == {"status": "ok"}
    assert (await scraped(port, "/readyz")).json() == {"status": "ready"}
    assert (await scraped(port, "/v1/models")).status_code == 404


def hostile_values(count: int) -> list[str]:
    return [uuid4().hex for _ in range(count)]


def test_hostile_values_share_one_child_and_are_not_remembered() -> None:
    metrics = Metrics(deployments=lambda: {"small"})

    for value in [*hostile_values(1000), "small"]:
        metrics.requests.of(value, value, value).inc()

    assert series(metrics) == {(OTHER, OTHER, OTHER), (OTHER, "small", OTHER)}
    assert len(metrics.requests._children) == 0


def test_the_bound_is_what_keeps_the_labels_few() -> None:
    """The negative control: where every value counts as known, the same input makes a series each."""

    class Everything(frozenset[str]):
        def __contains__(self, _: object) -> bool:
            return True

    metrics = Metrics(deployments=lambda: {"small"})
    unbounded = Bounded(metrics.requests._metric, Everything(), Everything(), Everything())

    for value in hostile_values(1000):
        unbounded.of(value, value, value).inc()

    assert len(series(metrics)) == 1000


def series(metrics: Metrics) -> set[tuple[str, ...]]:
    return {
        tuple(sample.labels.values())
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name == "auterity_relaycore_requests_total"
    }
