"""Read the body of a chat completion: what routing looks at, or one clear refusal."""

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

_ROLES = ("system", "developer", "user", "assistant", "tool")
_TRANSLATED = frozenset(
    {"messages", "model", "max_tokens", "max_completion_tokens", "stream", "stream_options", "stop", "user", "tools"}
    | {"tool_choice", "parallel_tool_calls", "response_format", "n"}
)
_DROPPABLE = frozenset(
    {"temperature", "top_p", "seed", "presence_penalty", "frequency_penalty", "verbosity", "metadata", "store"}
    | {"safety_identifier", "prompt_cache_key", "service_tier"}
)
_UNTRANSLATABLE = frozenset({"logprobs", "top_logprobs", "logit_bias", "reasoning_effort"})
_FIELDS = _TRANSLATED | _DROPPABLE | _UNTRANSLATABLE
TRANSLATABLE_IMAGES = tuple(f"data:image/{kind};base64," for kind in ("jpeg", "png", "gif", "webp"))
_PART_KEYS = {
    "text": frozenset({"type", "text"}),
    "image_url": frozenset({"type", "image_url"}),
    "refusal": frozenset({"type", "refusal"}),
}
_MESSAGE_KEYS = frozenset({"role", "content", "tool_calls", "tool_call_id", "refusal"})
_DROPPABLE_KEYS = frozenset({"name", "prompt_cache_breakpoint", "annotations"})


def read_chat(body: Body) -> Content:
    """Return what the body says. Raises `Invalid` naming the field.

    Fields that are not known are refused and not passed on: some of them change what a provider bills, or where a
    body goes.
    """
    refuse_unknown(body, _FIELDS)
    if body.get("n") not in (None, 1):
        raise unsupported("n", "Only n = 1 is supported.")
    if body.get("service_tier") not in (None, "default"):
        raise unsupported("service_tier", "Only the default service tier has a price.")
    messages = filled_objects(body.get("messages"), "messages")
    found = _Found()
    for index, message in enumerate(messages):
        found.look_at(message, f"messages.{index}")
    tools = [] if body.get("tools") is None else objects(body["tools"], "tools")
    for index, tool in enumerate(tools):
        if tool.get("type") == "function" and not optional_object(tool, "function").get("name"):
            raise Invalid("A function has a name.", field=f"tools.{index}.function.name")
    wanted = optional_object(body, "response_format").get("type")
    return Content(
        body=body,
        wire="openai",
        model=model_name(body),
        messages=len(messages),
        max_tokens=token_limit(body, "max_completion_tokens", "max_tokens"),
        is_stream=flag(body, "stream"),
        has_tools=bool(tools),
        needs_json=wanted in ("json_object", "json_schema"),
        images=found.images,
        image_bytes=found.image_bytes,
        untranslatable=(*_untranslatable(body, tools, wanted), *found.untranslatable),
        droppable=(*(name for name in body if name in _DROPPABLE and body[name] is not None), *found.droppable),
        labels=_labels(body),
    )


def wants_usage(body: Body) -> bool:
    """True if the caller of a stream asked for its usage."""
    options = body.get("stream_options")
    return isinstance(options, dict) and bool(cast(Body, options).get("include_usage"))


def _labels(body: Body) -> Mapping[str, str]:
    given = optional_object(body, "metadata")
    return {name: value for name, value in given.items() if isinstance(value, str)}


def _untranslatable(body: Body, tools: Sequence[Body], wanted: object) -> list[str]:
    found = [name for name in body if name in _UNTRANSLATABLE and body[name] not in (None, False)]
    if wanted == "json_object":
        found.append("response_format")
    if any(tool.get("type") != "function" for tool in tools):
        found.append("tools")
    choice = body.get("tool_choice")
    if isinstance(choice, dict) and cast(Body, choice).get("type") != "function":
        found.append("tool_choice")
    return found


class _Found(BodyFindings):
    """What is in the messages beside text, gathered one message at a time."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(_DROPPABLE_KEYS)

    def look_at(self, message: Body, place: str) -> None:
        """Check a message. Raises `Invalid` naming its place."""
        if message.get("role") not in _ROLES:
            raise Invalid(f"A message has one of the roles {', '.join(_ROLES)}.", field=f"{place}.role")
        self.note_further(message.keys() - _MESSAGE_KEYS, place)
        content = message.get("content")
        if isinstance(content, str | None):
            return
        if not isinstance(content, list):
            raise Invalid("A message's content is text, or a list of parts.", field=f"{place}.content")
        for index, part in enumerate(objects(cast(object, content), f"{place}.content")):
            self._look_at_part(part, f"{place}.content.{index}")

    def _look_at_part(self, part: Body, place: str) -> None:
        keys = _PART_KEYS.get(str(part.get("type")))
        if keys is None:
            raise unsupported(place, "Parts are texts or images.")
        self.note_further(part.keys() - keys, place)
        if part["type"] == "image_url":
            self._look_at_image(optional_object(part, "image_url"), place)

    def _look_at_image(self, image: Body, place: str) -> None:
        url = image.get("url")
        if not isinstance(url, str):
            raise Invalid("An image has a URL.", field=f"{place}.image_url.url")
        self.images += 1
        if url.startswith("data:"):
            self.image_bytes += len(url)
            if not url.startswith(TRANSLATABLE_IMAGES):
                self.untranslatable.append(place)
        if image.get("detail") not in (None, "auto"):
            self.droppable["image_url.detail"] = None
