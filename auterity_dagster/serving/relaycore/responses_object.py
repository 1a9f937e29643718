"""The object that `POST /v1/responses` answers with, and the items of its output."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from auterity_dagster.serving.relaycore.wire import Asked

Json = Mapping[str, Any]

_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}


def response_object(
    asked: Asked, *, model: str, output: Sequence[Json], status: str, usage: Json | None, reason: str | None = None
) -> dict[str, Any]:
    """Return the whole object: what was asked comes back in it, as the official SDK expects."""
    written = asked.written
    return {
        "id": f"resp_{asked.request.id.hex}",
        "object": "response",
        "created_at": int(time.time()),
        "status": status,
        "error": None,
        "incomplete_details": {"reason": reason} if reason else None,
        "instructions": written.get("instructions"),
        "max_output_tokens": written.get("max_output_tokens"),
        "metadata": written.get("metadata") or {},
        "model": model,
        "output": output,
        "parallel_tool_calls": written.get("parallel_tool_calls") is not False,
        "previous_response_id": None,
        "reasoning": {"effort": (written.get("reasoning") or {}).get("effort"), "summary": None},
        "store": False,
        "temperature": written.get("temperature"),
        "text": written.get("text") or {"format": {"type": "text"}},
        "tool_choice": written.get("tool_choice") or "auto",
        "tools": written.get("tools") or [],
        "top_p": written.get("top_p"),
        "truncation": "disabled",
        "usage": usage,
        "user": written.get("user"),
    }


def incomplete_reason(finish_reason: object) -> str | None:
    """Return why an answer is not whole, or None."""
    return _INCOMPLETE.get(str(finish_reason))


def message_item(item_id: str, parts: Sequence[Json], *, status: str = "completed") -> dict[str, Any]:
    """Return the item of what the model said."""
    return {"id": item_id, "type": "message", "role": "assistant", "status": status, "content": parts}


def text_part(text: str) -> dict[str, Any]:
    """Return a text of a message."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def refusal_part(text: str) -> dict[str, Any]:
    """Return a refusal of a message."""
    return {"type": "refusal", "refusal": text}


def call_item(item_id: str, call: Json, *, arguments: str, status: str = "completed") -> dict[str, Any]:
    """Return the item of a call of a tool; `call` is the chat completion's."""
    return {
        "id": item_id,
        "type": "function_call",
        "call_id": call["id"],
        "name": call["function"]["name"],
        "arguments": arguments,
        "status": status,
    }


def usage_here(usage: Json | None) -> dict[str, Any] | None:
    """Return a chat completion's usage under this wire's names."""
    if usage is None:
        return None
    prompt: Json = usage.get("prompt_tokens_details") or {}
    output: Json = usage.get("completion_tokens_details") or {}
    return {
        "input_tokens": usage.get("prompt_tokens"),
        "input_tokens_details": {
            "cached_tokens": prompt.get("cached_tokens") or 0,
            "cache_write_tokens": prompt.get("cache_write_tokens") or 0,
        },
        "output_tokens": usage.get("completion_tokens"),
        "output_tokens_details": {"reasoning_tokens": output.get("reasoning_tokens") or 0},
        "total_tokens": usage.get("total_tokens"),
    }
