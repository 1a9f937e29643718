"""Which tools the sandbox calls: those that the last question names, or the first one where a call is required."""

import hashlib
import json
import re
from dataclasses import dataclass

from auterity_dagster.serving.sandbox.asked import Asked, Tool
from auterity_dagster.serving.sandbox.schema_instance import DEFAULT, instance_of


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call; `arguments` is JSON that the tool's schema admits."""

    id: str
    name: str
    arguments: str


def tool_calls(asked: Asked, *, seed: int) -> tuple[ToolCall, ...]:
    """Return the calls; the same request and seed give the same, ids included."""
    wanted = _wanted(asked)
    if not asked.is_parallel:
        wanted = wanted[:1]
    return tuple(_call(tool, asked, number=number, seed=seed) for number, tool in enumerate(wanted))


def _wanted(asked: Asked) -> list[Tool]:
    if asked.tool_choice not in ("auto", "any", "none"):
        return [tool for tool in asked.tools if tool.name == asked.tool_choice]
    if asked.tool_choice == "none" or (asked.messages[-1].is_tool_result and asked.tool_choice == "auto"):
        return []
    question = next((one.text for one in reversed(asked.messages) if one.role == "user"), "")
    named = [tool for tool in asked.tools if re.search(rf"\b{re.escape(tool.name)}\b", question)]
    return named or (list(asked.tools[:1]) if asked.tool_choice == "any" else [])


def _call(tool: Tool, asked: Asked, *, number: int, seed: int) -> ToolCall:
    said = "|".join((str(seed), tool.name, *(one.text for one in asked.messages)))
    digest = hashlib.sha256(said.encode()).hexdigest()[:20]
    arguments = instance_of(tool.parameters, text="sandbox", chosen=lambda _name, _schema: DEFAULT)
    return ToolCall(f"call_{digest}_{number}", tool.name, json.dumps(arguments, separators=(",", ":")))
