"""The requests that the suite makes, in the words of each wire."""

import base64
from typing import Any

from pydantic import BaseModel

SYSTEM = "You answer for a car dealership."
QUESTION = "Is the blue one still there?"
ASKS_FOR_TOOLS = "Please use find_vehicle and then book_visit for me."
CHAT: list[Any] = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": QUESTION}]
CHAT_FOR_TOOLS: list[Any] = [CHAT[0], {"role": "user", "content": ASKS_FOR_TOOLS}]
# The smallest PNG: one pixel.
PNG = base64.b64encode(
    bytes.fromhex(
        "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d4944415478da63fcffff3f0300050001"
        "0d0a2db40000000049454e44ae426082"
    )
).decode()

_PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {"stock": {"type": "string"}, "number": {"type": "integer", "minimum": 2}},
    "required": ["stock", "number"],
    "additionalProperties": False,
}
NAMES = ("find_vehicle", "book_visit")
OPENAI_TOOLS: list[Any] = [
    {"type": "function", "function": {"name": name, "description": f"To {name}", "parameters": _PARAMETERS}}
    for name in NAMES
]
ANTHROPIC_TOOLS: list[Any] = [
    {"name": name, "description": f"To {name}", "input_schema": _PARAMETERS} for name in NAMES
]
RESPONSES_TOOLS: list[Any] = [
    {"type": "function", "name": name, "description": f"To {name}", "parameters": _PARAMETERS, "strict": True}
    for name in NAMES
]


class Verdict(BaseModel):
    """What an answer in a schema must be."""

    winner: str
    count: int
    notes: list[str]
    is_sure: bool


SCHEMA = {**Verdict.model_json_schema(), "additionalProperties": False}
