"""A request of either wire as the sandbox understands it, before anything is answered."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

IMAGE_TOKENS = (85, 1500)
"""The fewest and the most that an image counts: it follows from its size in bytes."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool that the caller offers."""

    name: str
    parameters: Mapping[str, Any]
    description: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """A message: its text, with the calls and results of tools in it written out, and what its images count.

    `cached_tokens` were read from a cache, the two others were written to one.
    """

    role: str
    text: str
    image_tokens: int = 0
    cache: str | None = None
    """`read`, `write_5m` or `write_1h`: what happens to this message's tokens in the prompt cache."""
    is_tool_result: bool = False


@dataclass(frozen=True, slots=True)
class Asked:
    """A request. `tool_choice` is auto, any, none, or the name of a tool."""

    model: str
    messages: tuple[Message, ...]
    max_tokens: int
    schema: Mapping[str, Any] | None = None
    is_json_wanted: bool = False
    tools: tuple[Tool, ...] = ()
    tool_choice: str = "auto"
    is_parallel: bool = True
    thinks: bool = False
    stops: tuple[str, ...] = ()


def image_tokens(source: str) -> int:
    """Return what an image counts, from its data or its address."""
    least, most = IMAGE_TOKENS
    return min(most, least + len(source) // 100)
