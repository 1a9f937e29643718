"""What a report on production traffic compares: what was asked for, how long it was, how it went; never a text."""

from collections.abc import Iterable
from typing import NamedTuple

from auterity_dagster.neuroweaver.drift import Features


class Traffic(NamedTuple):
    """One request as the log keeps it; counts are None where nothing was answered."""

    task: str | None
    deployment_id: str | None
    outcome: str
    is_stream: bool
    prompt_tokens: int | None
    completion_tokens: int | None
    latency_ms: int


def traffic_features(requests: Iterable[Traffic]) -> Features:
    """Return one value a request for each column."""
    columns: dict[str, list[float | str]] = {}
    for one in requests:
        values: dict[str, float | str] = {
            "task": one.task or "none",
            "deployment": one.deployment_id or "none",
            "outcome": one.outcome,
            "stream": str(one.is_stream),
            "prompt_tokens": float(one.prompt_tokens or 0),
            "completion_tokens": float(one.completion_tokens or 0),
            "latency_ms": float(one.latency_ms),
        }
        for name, value in values.items():
            columns.setdefault(name, []).append(value)
    return columns
