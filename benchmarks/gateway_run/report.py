"""The Markdown table of a run: latencies as what each gateway adds to the provider's own, the rest as it is."""

from collections.abc import Mapping

from benchmarks.gateway_run.measurement import Figures

HEADS = (
    "",
    "CPU-us a call",
    "calls/s",
    "RSS MB",
    "added, 1 client: p50 / p95 / p99 ms",
    "added, half load: p50 / p95 / p99 ms",
    "first word added p50 ms",
    "words/s",
    "CPU-us a word",
)


def table(measured: Mapping[str, Figures], missing: Mapping[str, str]) -> str:
    """Return the table, then the ratios that the targets are about."""
    direct = measured["direct"]
    lines = [f"| {' | '.join(HEADS)} |", "|---" + "|--:" * (len(HEADS) - 1) + "|"]
    for name, one in measured.items():
        cells = (
            name,
            _whole(one.cpu_us),
            _whole(one.requests_per_s),
            _whole(one.rss_mb),
            _added(one.one_client_ms, direct.one_client_ms),
            _added(one.half_load_ms, direct.half_load_ms) + f" at {one.half_load_per_s:.0f}/s",
            f"{one.first_word_ms[0] - direct.first_word_ms[0]:.2f}",
            _whole(one.words_per_s),
            "" if one.cpu_us_per_word is None else f"{one.cpu_us_per_word:.1f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    lines += [f"\nnot measured: {name}: {why}" for name, why in missing.items()]
    lines += [f"\nfailures at {name}: {one.failures}" for name, one in measured.items() if one.failures]
    return "\n".join([*lines, "", *_ratios(measured)])


def _ratios(measured: Mapping[str, Figures]) -> list[str]:
    ours, bare = measured.get("RelayCore"), measured.get("pass-through")
    if ours is None or bare is None or ours.cpu_us is None or bare.cpu_us is None:
        return []
    said = [
        f"CPU of RelayCore / pass-through: {ours.cpu_us / bare.cpu_us:.2f}",
        f"first word after the pass-through's: {ours.first_word_ms[0] - bare.first_word_ms[0]:+.2f} ms",
        f"words/s of RelayCore / pass-through: {ours.words_per_s / bare.words_per_s:.2f}",
    ]
    for name in measured.keys() - {"direct", "pass-through", "RelayCore"}:
        said.append(f"calls/s of RelayCore / {name}: {ours.requests_per_s / measured[name].requests_per_s:.1f}")
    return said


def _added(ms: tuple[float, float, float], direct_ms: tuple[float, float, float]) -> str:
    return " / ".join(f"{one - base:.2f}" for one, base in zip(ms, direct_ms, strict=True))


def _whole(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"
