"""Tokens a second of the model server, one caller after the other and eight at once, and whether the answers are equal.

    .venv/bin/python benchmarks/model_server.py [--recipe smollm2_cpu_qlora] [--tokens 64] [--threads 2] [--rounds 3]

Serves the recipe's base over HTTP in this process. The rounds turn between one caller and eight; every caller asks
another question. Prints one JSON document.
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}

from auterity_dagster.neuroweaver.recipe import load_recipe  # noqa: E402
from auterity_dagster.neuroweaver.suites.suite import evaluation_suite  # noqa: E402
from auterity_dagster.prompt import load_prompts  # noqa: E402
from auterity_dagster.serving.model_server.app import create_app  # noqa: E402
from auterity_dagster.settings import ModelServerSettings  # noqa: E402
from auterity_dagster.storage.object_store import ObjectStore  # noqa: E402
from auterity_dagster.training.base_model import store_base  # noqa: E402
from tests.fakes.served import served  # noqa: E402

CALLERS = 8
TOKEN = "only-for-this-run"


async def measured(url: str, model: str, prompts: list[list[dict[str, str]]], *, at_once: int, tokens: int):
    """Ask every prompt, so many at once; return tokens a second and the texts."""
    gate = asyncio.Semaphore(at_once)
    async with httpx.AsyncClient(base_url=url, headers={"authorization": f"Bearer {TOKEN}"}, timeout=600) as client:

        async def ask(messages: list[dict[str, str]]) -> dict[str, Any]:
            async with gate:
                body = {"model": model, "messages": messages, "max_tokens": tokens}
                answer = await client.post("/v1/chat/completions", json=body)
                answer.raise_for_status()
                return answer.json()

        began = time.monotonic()
        answers = await asyncio.gather(*(ask(one) for one in prompts))
        elapsed_s = time.monotonic() - began
    written = sum(one["usage"]["completion_tokens"] for one in answers)
    return written / elapsed_s, [one["choices"][0]["message"]["content"] for one in answers]


async def run(options: argparse.Namespace, folder: Path) -> dict[str, object]:
    digest, _ = store_base(
        load_recipe(ROOT / "config" / "recipes" / f"{options.recipe}.yaml"), ObjectStore(folder / "objects")
    )
    (folder / "model_server_token").write_text(TOKEN)
    (folder / "model_server_token").chmod(0o600)
    suite = evaluation_suite(dict(load_prompts(ROOT / "config" / "prompts")), seed=7, items_per_family=2 * CALLERS)
    items = [item for item in suite.items if item.family == "lead_reply"][:CALLERS]
    prompts = [[one.model_dump() for one in item.messages] for item in items]
    settings = ModelServerSettings(data_dir=folder, secrets_dir=folder, model_server_threads=options.threads)
    rates: dict[int, list[float]] = {1: [], CALLERS: []}
    texts: dict[int, list[str]] = {}
    load = []
    async with served(create_app(settings)) as url:
        await measured(url, f"base:{digest}", prompts[:1], at_once=1, tokens=2)
        for _ in range(options.rounds):
            for at_once in rates:
                load.append(os.getloadavg()[0])
                rate, texts[at_once] = await measured(
                    url, f"base:{digest}", prompts, at_once=at_once, tokens=options.tokens
                )
                rates[at_once].append(rate)
    medians = {at_once: statistics.median(found) for at_once, found in rates.items()}
    return {
        "recipe": options.recipe,
        "tokens": options.tokens,
        "threads": options.threads,
        "cores": os.cpu_count(),
        "load": [round(min(load), 1), round(max(load), 1)],
        "tokens_per_s": {f"{at_once} at once": round(rate, 1) for at_once, rate in medians.items()},
        "times": round(medians[CALLERS] / medians[1], 2),
        "equal_answers": sum(one == other for one, other in zip(texts[1], texts[CALLERS], strict=True)),
        "answers": len(prompts),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", default="smollm2_cpu_qlora")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(asyncio.run(run(options, Path(folder))), indent=1))


if __name__ == "__main__":
    main()
