"""What an evaluation found, for people and for programs."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from rich.console import Console
from rich.table import Table

from auterity_dagster.relaycore.predictor import MEMBERS
from auterity_dagster.training.routing.evaluation import Estimate, Evaluation

SHOWN_TASKS = 12


def as_json(found: Evaluation) -> str:
    """Return everything as one JSON object; what is not a number is null."""
    return json.dumps(_plain(asdict(found)), indent=2, allow_nan=False)


def show(found: Evaluation, console: Console) -> None:
    """Print the figures with their intervals."""
    console.print(
        f"{found.rows:,} outcomes of {len(found.models)} models on {found.prompts:,} prompts of {found.tasks} tasks; "
        f"{found.missing_cells:,} cells missing"
        + (f"; {found.left_out_prompts:,} prompts beyond the limit left out" if found.left_out_prompts else "")
    )
    console.print(_models(found))
    console.print(f"[bold]{found.strong}[/] against [bold]{found.weak}[/]: {found.advice}")
    console.print(_figures(found))
    console.print(_curve(found))
    if found.by_task:
        console.print(_tasks(found))
    _say_rest(found, console)


def _say_rest(found: Evaluation, console: Console) -> None:
    if found.saving_at_equal_quality is not None:
        share = 100 * found.saving_at_equal_quality
        console.print(f"all models together: {share:.1f} % cheaper than the best single model at no lower quality")
    console.print(
        f"calibration: mean error {found.calibration_error:.3f}; "
        f"below the lower bound: {100 * found.below_lower_bound:.1f} % of the prompts"
    )
    for one in found.unseen_tasks:
        console.print(
            f"never seen {one.task}: {100 * one.noticed:.0f} % noticed as out of domain by words alone; APGR there "
            f"{one.apgr:.3f}; an unknown task is always left to the pool's mean"
        )
    weights = ", ".join(
        f"{name} {sum(seed.member_weights[place] for seed in found.seeds) / len(found.seeds):.2f}"
        for place, name in enumerate(MEMBERS)
    )
    console.print(f"members: {weights}")
    console.print(
        f"one decision costs on a CPU: p50 {found.decision_us_p50:.0f} µs, p95 {found.decision_us_p95:.0f} µs; "
        f"seeds {', '.join(str(one.seed) for one in found.seeds)}; {found.elapsed_s:.0f} s"
    )


def _models(found: Evaluation) -> Table:
    table = _table("model", "mean score", "mean cost", "prompts")
    for one in sorted(found.models, key=lambda model: model.mean_cost):
        table.add_row(one.model, f"{one.mean_score:.4f}", f"{one.mean_cost:.6g}", f"{one.cells:,}")
    return table


def _figures(found: Evaluation) -> Table:
    table = _table("figure", "mean", "95 % interval", "by split seed")
    rows: Sequence[tuple[str, Estimate, str, bool]] = (
        ("APGR", found.apgr, "apgr", False),
        ("CPT(50 %)", found.cpt50, "cpt50", True),
        ("CPT(80 %)", found.cpt80, "cpt80", True),
        ("APGR of prompt length", found.prompt_length, "prompt_length", False),
    )
    for name, value, field, is_share in rows:
        seeds = " ".join(_number(getattr(seed, field), is_share) for seed in found.seeds)
        interval = f"{_number(value.low, is_share)} to {_number(value.high, is_share)}"
        table.add_row(name, _number(value.mean, is_share), interval, seeds)
    mean = found.task_mean
    table.add_row("APGR of the task alone", _number(mean.mean), f"{_number(mean.low)} to {_number(mean.high)}", "")
    table.add_row("APGR of a constant", "0.500", "", "")
    return table


def _curve(found: Evaluation) -> Table:
    table = _table("strong calls", "quality", "cost")
    for point in found.curve[::2]:
        table.add_row(f"{100 * point.share:.0f} %", f"{point.quality:.4f}", f"{point.cost:.6g}")
    return table


def _tasks(found: Evaluation) -> Table:
    table = _table("task", "test prompts", "APGR", "prompt length")
    for one in sorted(found.by_task, key=lambda task: -task.prompts)[:SHOWN_TASKS]:
        table.add_row(one.task, str(one.prompts), _number(one.apgr), _number(one.prompt_length))
    table.add_row("mean of tasks", "", _number(found.apgr_mean_of_tasks), "")
    return table


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="bold")
    for place, column in enumerate(columns):
        table.add_column(column, justify="left" if place == 0 else "right")
    return table


def _number(value: float, is_share: bool = False) -> str:
    if not math.isfinite(value):
        return "n/a"
    return f"{100 * value:.0f} %" if is_share else f"{value:.3f}"


def _plain(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value
