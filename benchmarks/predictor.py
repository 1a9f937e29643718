"""What asking the learned predictor costs a request: CPU of one prediction, over prompts of three lengths.

Learns from a made-up table of outcomes first, as large as an organization's own may be; then asks about prompts that it
never saw, as the gateway does: from the body that came over the line.
"""

import argparse
import random
import statistics
import time

from threadpoolctl import threadpool_limits

from auterity_dagster.relaycore.outcomes import Outcome, outcome_table
from auterity_dagster.relaycore.predicted_quality import ActivePredictor
from auterity_dagster.relaycore.prompt_reading import written_prompt
from auterity_dagster.training.routing.fit import encoded_prompts, learn

WORDS = 8_000
LIMIT_MS = 1.0


def prompt(draw: random.Random, *, words: int) -> str:
    return " ".join(f"w{int(draw.paretovariate(1.1)) % WORDS}" for _ in range(words))


def learned(*, prompts: int, models: int) -> ActivePredictor:
    draw = random.Random(7)
    rows: list[Outcome] = []
    for number in range(prompts):
        text, task = f"{prompt(draw, words=draw.randint(10, 300))} {number}", draw.choice(("sales", "care", "service"))
        for model in range(models):
            score = float(draw.random() < 0.4 + 0.5 * model / models)
            rows.append(Outcome(text, task, f"model-{model}", score, 1e-4 * (1 + model)))
    table = outcome_table(rows)
    return ActivePredictor("benchmark", True, learn(table, encoded_prompts(table.prompts), seed=0).predictor)


def cpu_ms(active: ActivePredictor, *, words: int, calls: int) -> list[float]:
    draw = random.Random(words)
    took: list[float] = []
    for _ in range(calls):
        body = {"messages": [{"role": "user", "content": prompt(draw, words=words)}]}
        # The whole process's CPU: threads of the linear algebra count too.
        begun_ns = time.process_time_ns()
        active.predict(written_prompt(body), "sales")
        took.append((time.process_time_ns() - begun_ns) / 1e6)
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=3000)
    parser.add_argument("--models", type=int, default=6)
    parser.add_argument("--calls", type=int, default=2000)
    asked = parser.parse_args()
    with threadpool_limits(1):
        active = learned(prompts=asked.prompts, models=asked.models)
    print(f"learned from {asked.prompts} prompts, {asked.models} models; CPU of a prediction, {LIMIT_MS:g} ms at most:")
    for words in (20, 200, 5000):
        took = cpu_ms(active, words=words, calls=asked.calls)
        p50, p99 = statistics.median(took), statistics.quantiles(took, n=100)[98]
        print(f"  {words:5} words  p50 {p50:.3f}  p99 {p99:.3f}")


if __name__ == "__main__":
    main()
