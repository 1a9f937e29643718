"""Outcome tables whose truth is known, small enough to learn from in seconds."""

import random
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from auterity_dagster.relaycore.outcomes import Outcome

EASY = ("greeting", "colour", "hours", "address", "parking", "coffee", "mileage", "keys", "mats", "spare")
HARD = (
    "derivative",
    "integral",
    "theorem",
    "lemma",
    "residual",
    "escrow",
    "amortisation",
    "clause",
    "arbitrage",
    "tort",
)
FILLER = ("the", "a", "of", "please", "tell", "me", "about", "and", "with", "for", "my", "this", "that", "car", "today")

MakeOutcomes = Callable[..., list[Outcome]]


def make_outcomes(
    *, prompts: int = 400, models: int = 2, signal: float = 0.8, strong_gain: float = 0.5, cost_ratio: float = 20.0
) -> list[Outcome]:
    """Prompts of two tasks; only the strongest model is good at prompts with hard words, `signal` of the time."""
    draw = random.Random(5)
    rows: list[Outcome] = []
    for number in range(prompts):
        is_hard = draw.random() < 0.5
        words = draw.choices(HARD if is_hard else EASY, k=4) + draw.choices(FILLER, k=draw.randint(5, 40))
        draw.shuffle(words)
        prompt, task = f"{' '.join(words)} {number}", draw.choice(("sales", "care"))
        for model in range(models):
            share = model / max(models - 1, 1)
            chance = 0.9 - (strong_gain * (1 - share) if is_hard and draw.random() < signal else 0.0)
            cost = 1e-4 * (1 + (cost_ratio - 1) * share)
            rows.append(Outcome(prompt, task, f"model-{model}", float(draw.random() < chance), cost))
    return rows


def write_outcomes(path: Path, rows: list[Outcome], **changed: object) -> Path:
    """Write the rows as the command expects them; `changed` replaces columns, None leaves one out."""
    columns: dict[str, object] = {
        name: [getattr(row, name) for row in rows] for name in ("prompt", "task", "model", "score", "cost")
    }
    columns |= changed
    pq.write_table(pa.table({name: values for name, values in columns.items() if values is not None}), path)
    return path


@pytest.fixture(scope="session")
def outcomes() -> list[Outcome]:
    return make_outcomes()
