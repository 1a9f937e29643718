"""`auterity routing evaluate`: read the file, measure, print."""

from pathlib import Path

import typer
from rich.console import Console

from auterity_dagster.errors import Invalid
from auterity_dagster.training.routing import report
from auterity_dagster.training.routing.evaluation import evaluate
from auterity_dagster.training.routing.outcome_file import read_outcome_file

MAX_SEEDS = 50


def evaluate_file(outcomes: Path, *, seeds: str, strong: str | None, weak: str | None, as_json: bool) -> None:
    """Measure how well the outcomes of a file can be routed. Raises `Invalid` or `NotFound` with one sentence."""
    chosen = _seeds(seeds)
    found = evaluate(read_outcome_file(outcomes), seeds=chosen, strong=strong, weak=weak)
    if as_json:
        typer.echo(report.as_json(found))
    else:
        report.show(found, Console())


def _seeds(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts) or not 1 <= len(set(parts)) == len(parts) <= MAX_SEEDS:
        raise Invalid(f"--seeds: expected different whole numbers with commas between, such as 0,1,2; found {text!r}")
    return [int(part) for part in parts]
