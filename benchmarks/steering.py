"""How long the choice takes: `choose` over policies of 1,000 rules, and what reading such a policy costs.

Two kinds of policy: rules that each compare the task with texts, which the index finds by the task; and rules that
compare numbers and labels only, so that every one of them is asked for every request. CPU time is what the choice
takes; the clock on the wall also counts what other work on the machine takes away.
"""

import argparse
import json
import os
import random
import statistics
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from auterity_dagster.relaycore.catalog import CatalogSnapshot
from auterity_dagster.relaycore.chat import Caller, ChatRequest
from auterity_dagster.relaycore.price_list import load_prices
from auterity_dagster.relaycore.quality import Quality
from auterity_dagster.relaycore.steering import choose
from auterity_dagster.relaycore.steering_catalog import routable
from auterity_dagster.relaycore.steering_file import parse_policy
from auterity_dagster.relaycore.steering_policy import SteeringPolicy
from auterity_dagster.relaycore.strict_yaml import read_yaml

CONFIG = Path(__file__).parents[1] / "config"
NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
PRICES = load_prices(CONFIG / "prices.yaml").all_in_force(NOW)
CALLER = Caller(UUID(int=1), UUID(int=2), UUID(int=3), "workflow", UUID(int=4))
WARM_UP = 500


def by_task(number: int, rules: int) -> dict[str, Any]:
    tasks = [f"task_{number % (rules // 4)}", f"task_{number % (rules // 7)}"]
    return {"all": [{"features.task": {"in": tasks}}, {"features.prompt_tokens": {"lt": 100 + number}}]}


def by_numbers(number: int, _rules: int) -> dict[str, Any]:
    return {"all": [{"features.prompt_tokens": {"gte": 50_000 + number}}, {"metadata.class": {"prefix": f"c{number}"}}]}


def policy(rules: int, when: Callable[[int, int], dict[str, Any]]) -> tuple[SteeringPolicy, float]:
    """Return a policy with so many rules before the last one, and the seconds of CPU that reading it took."""
    written: Any = read_yaml((CONFIG / "steering.yaml").read_text(), source="shipped")
    then = {"set": {"max_output_tokens": 900}}
    written["rules"] = [
        *({"id": f"r{one}", "priority": one + 1, "when": when(one, rules), "then": then} for one in range(rules)),
        written["rules"][-1],
    ]
    written["tests"] = []
    text = json.dumps(written)
    began_s = time.thread_time()
    read = parse_policy(text, source="generated", prices=PRICES)
    return read, time.thread_time() - began_s


def requests(count: int, *, rules: int, seed: int) -> list[ChatRequest]:
    dice = random.Random(seed)
    return [
        ChatRequest(
            id=UUID(int=dice.getrandbits(64)),
            caller=CALLER,
            model="auto",
            task=f"task_{dice.randrange(rules // 4)}",
            prompt_tokens_bound=4000,
            prompt_tokens_estimate=dice.randrange(1, 4000),
            max_tokens=500,
            is_stream=False,
            metadata={"class": f"c{dice.randrange(rules)}x"},
            received_at=NOW,
        )
        for _ in range(count)
    ]


def measured(chosen_by: SteeringPolicy, asked: Sequence[ChatRequest]) -> tuple[list[float], list[float]]:
    """Microseconds of each choice, of CPU and on the wall, after a warm-up that is not counted."""
    deployments, unavailable = routable(chosen_by, {}, {})
    quality = {
        (request.task or "", deployment.artefact_digest): Quality(40, 10)
        for request in asked
        for deployment in deployments.values()
    }
    snapshot = CatalogSnapshot(deployments, quality, PRICES, unavailable)
    cpu_us: list[float] = []
    wall_us: list[float] = []
    for request in asked:
        began_ns, used_ns = time.perf_counter_ns(), time.thread_time_ns()
        choose(chosen_by, request, snapshot)
        cpu_us.append((time.thread_time_ns() - used_ns) / 1000)
        wall_us.append((time.perf_counter_ns() - began_ns) / 1000)
    return cpu_us[WARM_UP:], wall_us[WARM_UP:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rules", type=int, default=1000)
    parser.add_argument("--choices", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    print(f"{given.rules} rules, {given.choices} choices, seed {given.seed}, load {os.getloadavg()[0]:.1f}")
    asked = requests(given.choices + WARM_UP, rules=given.rules, seed=given.seed)
    for name, when in (("found by task", by_task), ("each rule asked", by_numbers)):
        chosen_by, read_s = policy(given.rules, when)
        cpu, wall = (statistics.quantiles(took_us, n=100) for took_us in measured(chosen_by, asked))
        print(
            f"{name}: choose p50 {cpu[49]:.0f} us, p99 {cpu[98]:.0f} us of CPU; p50 {wall[49]:.0f} us, "
            f"p99 {wall[98]:.0f} us on the wall; reading the policy {read_s:.2f} s of CPU"
        )


if __name__ == "__main__":
    main()
