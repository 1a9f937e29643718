"""Read the body of a request for a message: what routing looks at, or one clear refusal."""

from collections.abc import Mapping, Sequence
from typing import cast

from auterity_dagster.errors import Invalid
from auterity_dagster.serving.relaycore.body_checks import (
    filled_objects,
    flag,
    model_name,
    objects,
    optional_object,
    refuse_unknown,
    token_limit,
    unsupported,
)
from auterity_dagster.serving.relaycore.body_findings import BodyFindings
from auterity_dagster.serving.relaycore.wire import Body, Content

OPENAI_STOP_LIMIT = 4

_ROLES = ("user", "assistant", "system")
_TRANSLATED = frozenset(
    {"messages", "model", "max_tokens", "system", "stop_sequences", "stream", "temperature", "top_p", "metadata"}
    | {"tools", "tool_choice"}
)
_DROPPABLE = frozenset({"cache_control", "top_k", "service_tier"})
_FIELDS = _TRANSLATED | _DROPPABLE | {"thinking", "output_config"}
_IMAGE_TYPES = ("base64", "url")
_BLOCK_KEYS: Mapping[str, frozenset[str]] = {
    "text": frozenset({"type", "text"}),
    "image": frozenset({"type", "source"}),
    "tool_use": frozenset({"type", "id", "name", "input"}),
    "tool_result": frozenset({"type", "tool_use_id", "content"}),
    "thinking": frozenset(),
    "redacted_thinking": frozenset(),
}
"""The blocks that are taken, with the keys that the OpenAI wire has words for."""
_TOOL_KEYS = frozenset({"type", "name", "description", "input_schema", "strict"})
_DROPPABLE_KEYS = frozenset({"cache_control", "citations", "is_error", "caller"})


def read_messages(body: Body) -> Content:
    """Return what the body says. Raises `Invalid` naming the field.

    Documents, files and tools that the provider runs itself are refused: nothing bounds what they cost.
    """
    limit = token_limit(body, "max_tokens")
    if limit is None:
        raise Invalid("max_tokens is required on this wire.", field="max_tokens")
    return read_prompt(body, is_stream=flag(body, "stream"), max_tokens=limit)


def read_prompt(body: Body, *, is_stream: bool, max_tokens: int | None) -> Content:
    """The same without the answer's own fields: what counting tokens takes."""
    refuse_unknown(body, _FIELDS)
    found = _Found()
    messages = filled_objects(body.get("messages"), "messages")
    for index, message in enumerate(messages):
        found.look_at(message, f"messages.{index}")
    found.look_at_blocks(body.get("system") or "", "system")
    tools = [] if body.get("tools") is None else objects(body["tools"], "tools")
    found.look_at_tools(tools)
    return Content(
        body=body,
        wire="anthropic",
        model=model_name(body),
        messages=len(messages),
        max_tokens=max_tokens,
        is_stream=is_stream,
        has_tools=bool(tools),
        needs_json=found.look_at_output(optional_object(body, "output_config")),
        images=found.images,
        image_bytes=found.image_bytes,
        untranslatable=(*_untranslatable(body), *found.untranslatable),
        droppable=(*(name for name in body if name in _DROPPABLE and body[name] is not None), *found.droppable),
    )


def _untranslatable(body: Body) -> list[str]:
    found = [] if optional_object(body, "thinking").get("type") in (None, "disabled") else ["thinking"]
    stops = body.get("stop_sequences") or ()
    if not isinstance(stops, list | tuple):
        raise Invalid("stop_sequences is a list.", field="stop_sequences")
    return [*found, "stop_sequences"] if len(cast(Sequence[object], stops)) > OPENAI_STOP_LIMIT else found


class _Found(BodyFindings):
    """What is in a body beside text, gathered block by block."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(_DROPPABLE_KEYS)

    def look_at(self, message: Body, place: str) -> None:
        """Check a message. Raises `Invalid` naming its place."""
        if message.get("role") not in _ROLES:
            raise Invalid(f"A message has one of the roles {', '.join(_ROLES)}.", field=f"{place}.role")
        self.look_at_blocks(message.get("content"), f"{place}.content")

    def look_at_blocks(self, content: object, place: str) -> None:
        """Check a text or a list of blocks."""
        if isinstance(content, str):
            return
        for index, block in enumerate(objects(content, place)):
            self._look_at_block(block, f"{place}.{index}")

    def look_at_tools(self, tools: Sequence[Body]) -> None:
        """Check the tools: only those that the caller runs have no price of their own."""
        for index, tool in enumerate(tools):
            if tool.get("type") not in (None, "custom"):
                raise unsupported(f"tools.{index}.type", "Tools that the provider runs itself have no price here.")
            self.note_further(tool.keys() - _TOOL_KEYS, f"tools.{index}")

    def look_at_output(self, config: Body) -> bool:
        """Return whether an answer in a schema is wanted."""
        if config.get("effort") is not None:
            self.untranslatable.append("output_config.effort")
        if config.keys() - {"effort", "format"}:
            raise unsupported("output_config")
        wanted = optional_object(config, "format").get("type")
        if wanted not in (None, "json_schema"):
            raise unsupported("output_config.format")
        return wanted is not None

    def _look_at_block(self, block: Body, place: str) -> None:
        kind = str(block.get("type"))
        keys = _BLOCK_KEYS.get(kind)
        if keys is None:
            raise unsupported(place, f"Blocks are {', '.join(_BLOCK_KEYS)}.")
        if not keys:
            self.untranslatable.append(place)
            return
        self.note_further(block.keys() - keys, place)
        if kind == "image":
            self._look_at_image(optional_object(block, "source"), place)
        elif kind == "tool_result":
            self._look_at_result(block.get("content", ""), f"{place}.content")

    def _look_at_result(self, content: object, place: str) -> None:
        self.look_at_blocks(content, place)
        if not isinstance(content, str) and any(block["type"] != "text" for block in cast(Sequence[Body], content)):
            self.untranslatable.append(place)

    def _look_at_image(self, source: Body, place: str) -> None:
        if source.get("type") not in _IMAGE_TYPES:
            raise unsupported(f"{place}.source", f"Images come as {' or '.join(_IMAGE_TYPES)}.")
        self.images += 1
        data = source.get("data" if source["type"] == "base64" else "url")
        if not isinstance(data, str):
            raise Invalid("An image has data or a url.", field=f"{place}.source")
        if source["type"] == "base64":
            self.image_bytes += len(data)
