"""What is measured of one target, and how rounds of it become figures."""

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from benchmarks.gateway_run.load import Target, saturated, steady
from benchmarks.gateway_run.processes import cpu_s, rss_mb


@dataclass(frozen=True)
class Plan:
    """How long and how hard."""

    seconds: float
    rounds: int
    clients: int
    stream_clients: int


@dataclass(frozen=True)
class Figures:
    """One round, in the units that the names say; without pids (the provider itself) nothing is said of CPU."""

    requests_per_s: float
    cpu_us: float | None
    one_client_ms: tuple[float, float, float]
    half_load_per_s: float
    half_load_ms: tuple[float, float, float]
    first_word_ms: tuple[float, float, float]
    words_per_s: float
    cpu_us_per_word: float | None
    rss_mb: float | None
    failures: tuple[str, ...]


async def measure(target: Target, plan: Plan, *, half_load_per_s: float | None = None) -> Figures:
    """Measure one round: one client, saturation, half of it (or the given rate), streams alone and together."""
    await saturated(target, clients=plan.clients, seconds=min(1.0, plan.seconds))
    alone = await saturated(target, clients=1, seconds=plan.seconds)
    before_s = cpu_s(target.pids)
    full = await saturated(target, clients=plan.clients, seconds=plan.seconds)
    used_s = cpu_s(target.pids) - before_s
    rate = len(full.answer_s) / full.wall_s
    half_per_s = half_load_per_s or rate / 2
    half = await steady(target, per_s=half_per_s, seconds=plan.seconds)
    stream = await saturated(target, clients=1, seconds=plan.seconds, is_stream=True)
    before_s = cpu_s(target.pids)
    streams = await saturated(target, clients=plan.stream_clients, seconds=plan.seconds, is_stream=True)
    stream_used_s = cpu_s(target.pids) - before_s
    runs = (alone, full, half, stream, streams)
    return Figures(
        requests_per_s=rate,
        cpu_us=_each(used_s, len(full.answer_s)) if target.pids else None,
        one_client_ms=_quantiles(alone.answer_s),
        half_load_per_s=half_per_s,
        half_load_ms=_quantiles(half.answer_s),
        first_word_ms=_quantiles(stream.first_word_s),
        words_per_s=streams.words / streams.wall_s,
        cpu_us_per_word=_each(stream_used_s, streams.words) if target.pids else None,
        rss_mb=rss_mb(target.pids) if target.pids else None,
        failures=tuple(failure for run in runs for failure in run.failures[:2]),
    )


def median_of(rounds: Sequence[Figures]) -> Figures:
    """Each figure's median over the rounds; every failure that any of them saw."""
    merged: dict[str, object] = {}
    for name, value in asdict(rounds[0]).items():
        values = [getattr(one, name) for one in rounds]
        if name == "failures":
            merged[name] = tuple(failure for failures in values for failure in failures)
        elif isinstance(value, tuple):
            merged[name] = tuple(statistics.median(column) for column in zip(*values, strict=True))
        else:
            merged[name] = None if value is None else statistics.median(values)
    return Figures(**merged)  # type: ignore[arg-type]


def _quantiles(seconds: Sequence[float]) -> tuple[float, float, float]:
    """p50, p95 and p99 in milliseconds; too few answers leave a stream's first word at its only value."""
    if len(seconds) < 2:
        only = seconds[0] * 1000 if seconds else float("nan")
        return (only, only, only)
    cut = statistics.quantiles(seconds, n=100)
    return (cut[49] * 1000, cut[94] * 1000, cut[98] * 1000)


def _each(used_s: float, count: int) -> float:
    return used_s * 1e6 / max(count, 1)
