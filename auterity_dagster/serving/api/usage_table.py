"""Usage groups as the rows of a report: added up by what the caller wants to see side by side."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import date
from typing import Literal, TypeVar
from uuid import UUID

from pydantic import BaseModel

from auterity_dagster.money import in_usd
from auterity_dagster.relaycore.latency_histogram import quantile_ms
from auterity_dagster.storage.repositories.usage_days import UsageGroup

Key = TypeVar("Key", int, str)
By = Literal["day", "task", "deployment_id", "dealership_id", "purpose"]


class UsageRead(BaseModel):
    """Attempts of one group. What was not asked for side by side is null; `error_share` counts all that were not ok.

    Latencies are in milliseconds, to within a tenth: p50 and p95 of whole answers, and of the first token of streams.
    """

    day: date | None
    task: str | None
    deployment_id: str | None
    dealership_id: UUID | None
    purpose: str | None
    attempts: int
    error_share: float
    outcomes: dict[str, int]
    unreported: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    cost_nusd: int
    cost_usd: str
    latency_p50_ms: float | None
    latency_p95_ms: float | None
    first_token_p50_ms: float | None
    first_token_p95_ms: float | None


def usage_rows(groups: Iterable[UsageGroup], by: Sequence[By]) -> list[UsageRead]:
    """Return one row for each combination of `by`, in its order; one row of everything where nothing is asked."""
    parts: dict[tuple[object, ...], list[UsageGroup]] = defaultdict(list)
    for group in groups:
        parts[tuple(getattr(group, name) for name in by)].append(group)
    ordered = sorted(parts.items(), key=lambda part: tuple(str(value) for value in part[0]))
    return [_row(dict(zip(by, key, strict=True)), found) for key, found in ordered]


def _row(key: dict[By, object], groups: list[UsageGroup]) -> UsageRead:
    attempts, ok = sum(one.attempts for one in groups), sum(one.ok for one in groups)
    latencies, first_tokens = _added(one.latencies for one in groups), _added(one.first_tokens for one in groups)
    cost_nusd = sum(one.cost_nusd for one in groups)
    named = {name: key.get(name) for name in ("day", "task", "deployment_id", "dealership_id", "purpose")}
    return UsageRead(
        **named,  # pyright: ignore[reportArgumentType]
        attempts=attempts,
        error_share=1 - ok / attempts,
        outcomes=_added(one.outcomes for one in groups),
        unreported=sum(one.unreported for one in groups),
        prompt_tokens=sum(one.prompt_tokens for one in groups),
        cached_tokens=sum(one.cached_tokens for one in groups),
        completion_tokens=sum(one.completion_tokens for one in groups),
        cost_nusd=cost_nusd,
        cost_usd=in_usd(cost_nusd),
        latency_p50_ms=quantile_ms(latencies, 0.5),
        latency_p95_ms=quantile_ms(latencies, 0.95),
        first_token_p50_ms=quantile_ms(first_tokens, 0.5),
        first_token_p95_ms=quantile_ms(first_tokens, 0.95),
    )


def _added(counts: Iterable[dict[Key, int]]) -> dict[Key, int]:
    total: dict[Key, int] = {}
    for one in counts:
        for key, count in one.items():
            total[key] = total.get(key, 0) + count
    return total
