"""Stored decisions about leads where only the sandbox can be called, and its large model is the better one."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson

from auterity_dagster.relaycore.catalog import CatalogSnapshot
from auterity_dagster.relaycore.chat import Caller, ChatRequest
from auterity_dagster.relaycore.decision_record import catalog_document, inputs_document, with_digest
from auterity_dagster.relaycore.policy_replay import Contexts, PastDecision
from auterity_dagster.relaycore.price_list import load_prices
from auterity_dagster.relaycore.quality import Quality
from auterity_dagster.relaycore.steering_catalog import routable
from auterity_dagster.relaycore.steering_file import read_policy
from auterity_dagster.relaycore.steering_policy import SteeringPolicy
from tests.fakes.policy_mistakes import SHIPPED

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
PRICES = load_prices(Path(__file__).parents[2] / "config" / "prices.yaml").all_in_force(NOW)
CALLER = Caller(UUID(int=1), UUID(int=2), UUID(int=3), "workflow", UUID(int=4))
THEN = read_policy(SHIPPED, source="then")
GOOD, FAIR = Quality(50, 4), Quality(45, 9)


def past(policy: SteeringPolicy = THEN, *, requests: int = 4) -> tuple[list[PastDecision], Contexts]:
    """Return the decisions as they come back from storage, and what they were made from."""
    deployments, _ = routable(policy, {}, {})
    unavailable = {name: "credential: none" for name in deployments if not name.startswith("sandbox-")}
    quality = {
        ("lead_reply", "provider:sandbox/sandbox-large"): GOOD,
        ("lead_reply", "provider:sandbox/sandbox-small"): FAIR,
    }
    snapshot = with_digest(CatalogSnapshot(deployments, quality, PRICES, unavailable))
    decisions = [
        PastDecision(UUID(int=number), read_back(inputs_document(policy, request(number), snapshot)))
        for number in range(requests)
    ]
    return decisions, {
        ("policy", policy.digest): {"yaml": policy.text},
        ("catalog", snapshot.digest): read_back(catalog_document(snapshot)),
    }


def request(number: int) -> ChatRequest:
    return ChatRequest(
        id=UUID(int=number),
        caller=CALLER,
        model="auto",
        task="lead_reply",
        prompt_tokens_bound=400,
        prompt_tokens_estimate=100,
        max_tokens=100,
        is_stream=False,
        has_tools=False,
        quality_min=None,
        max_cost_nusd=None,
        received_at=NOW,
    )


def read_back(document: dict[str, Any]) -> dict[str, Any]:
    return orjson.loads(orjson.dumps(document))
