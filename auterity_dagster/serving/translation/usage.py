"""Usage reports of both wires, read strictly into one form and written back in either."""

from collections.abc import Mapping
from typing import Any, cast

from auterity_dagster.errors import Invalid
from auterity_dagster.relaycore.chat import UsageReport
from auterity_dagster.relaycore.pricing import Usage


def read_openai_usage(raw: object) -> UsageReport | None:
    """Read a usage report; absent is None, and an explicit zero is zero. Nonsense is a report without a usage.

    An embedding's report names no output: it has none.
    """
    if raw is None:
        return None
    try:
        report = cast(Mapping[str, Any], raw)
        prompt: Mapping[str, Any] = report.get("prompt_tokens_details") or {}
        output: Mapping[str, Any] = report.get("completion_tokens_details") or {}
        return UsageReport(
            Usage(
                prompt_tokens=_tokens(report["prompt_tokens"]),
                completion_tokens=_tokens(report["completion_tokens"]),
                cache_read_tokens=_tokens(prompt.get("cached_tokens") or 0),
                cache_write_5m_tokens=_tokens(prompt.get("cache_write_tokens") or 0),
                reasoning_tokens=_tokens(output.get("reasoning_tokens") or 0),
            )
        )
    except (AttributeError, KeyError, TypeError, Invalid):
        return UsageReport(None)


def read_embedding_usage(raw: object) -> UsageReport | None:
    """Read the report of an embedding: a prompt and no output."""
    if not isinstance(raw, dict):
        return None if raw is None else UsageReport(None)
    return read_openai_usage({"completion_tokens": 0, **cast(Mapping[str, object], raw)})


def read_anthropic_usage(raw: object) -> UsageReport | None:
    """Read a usage report: this wire leaves cached tokens out of the input, we count them in."""
    if raw is None:
        return None
    try:
        report = cast(Mapping[str, Any], raw)
        read = _tokens(report.get("cache_read_input_tokens") or 0)
        written = _tokens(report.get("cache_creation_input_tokens") or 0)
        by_life: Mapping[str, Any] = report.get("cache_creation") or {}
        written_1h = _tokens(by_life.get("ephemeral_1h_input_tokens") or 0)
        details: Mapping[str, Any] = report.get("output_tokens_details") or {}
        return UsageReport(
            Usage(
                prompt_tokens=_tokens(report["input_tokens"]) + read + written,
                completion_tokens=_tokens(report["output_tokens"]),
                cache_read_tokens=read,
                cache_write_5m_tokens=written - written_1h,
                cache_write_1h_tokens=written_1h,
                reasoning_tokens=_tokens(details.get("thinking_tokens") or 0),
            )
        )
    except (AttributeError, KeyError, TypeError, Invalid):
        return UsageReport(None)


def openai_usage(usage: Usage) -> dict[str, Any]:
    """Write a usage on the OpenAI wire."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {
            "cached_tokens": usage.cache_read_tokens,
            "cache_write_tokens": usage.cache_write_5m_tokens + usage.cache_write_1h_tokens,
        },
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


def anthropic_usage(usage: Usage | None) -> dict[str, Any]:
    """Write a usage on the Anthropic wire, whose messages always have one: zeros stand for a report that never came."""
    known = usage or Usage(0, 0)
    return {
        "input_tokens": known.uncached_tokens,
        "output_tokens": known.completion_tokens,
        "cache_creation_input_tokens": known.cache_write_5m_tokens + known.cache_write_1h_tokens,
        "cache_read_input_tokens": known.cache_read_tokens,
        "cache_creation": {
            "ephemeral_5m_input_tokens": known.cache_write_5m_tokens,
            "ephemeral_1h_input_tokens": known.cache_write_1h_tokens,
        },
        "output_tokens_details": {"thinking_tokens": known.reasoning_tokens},
    }


def _tokens(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError("a token count is a whole number")
    return value
