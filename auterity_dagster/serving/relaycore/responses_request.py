"""Read the body of `POST /v1/responses` as a chat completion: the subset that has one meaning in both."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from auterity_dagster.errors import Invalid
from auterity_dagster.serving.relaycore.body_checks import flag, objects, optional_object, refuse_unknown, unsupported
from auterity_dagster.serving.relaycore.chat_request import read_chat
from auterity_dagster.serving.relaycore.wire import Body, Content

_SAME = frozenset(
    {"model", "temperature", "top_p", "user", "metadata", "parallel_tool_calls", "safety_identifier", "service_tier"}
    | {"prompt_cache_key", "stream"}
)
_FIELDS = _SAME | {"input", "instructions", "max_output_tokens", "reasoning", "text", "tools", "tool_choice"}
_ONLY_DEFAULT: Mapping[str, tuple[object, ...]] = {
    "store": (False,),
    "background": (False,),
    "truncation": ("disabled",),
    "include": ([],),
    "stream_options": ({},),
}
"""Fields that are taken where they change nothing. Nothing is stored here, so nothing can be referred to later."""
_ROLES = ("system", "developer", "user", "assistant")
_PARTS = {"input_text": "text", "output_text": "text", "refusal": "refusal"}
_FIELD_HERE = {"reasoning_effort": "reasoning.effort", "response_format": "text.format", "messages": "input"}


def read_response(written: Body) -> Content:
    """Return what the body says; `Content.body` is the chat completion that it becomes.

    Raises `Invalid` naming the field: `previous_response_id`, `conversation` and every built-in tool among them.
    """
    body = {name: value for name, value in written.items() if value is not None}
    for name, defaults in _ONLY_DEFAULT.items():
        if name in body and body.pop(name) not in defaults:
            raise unsupported(name)
    refuse_unknown(body, _FIELDS)
    chat = _chat(body)
    try:
        content = read_chat(chat)
    except Invalid as error:
        raise Invalid(error.message, code=error.code, field=_here(str(error.details.get("field")))) from error
    return replace(
        content,
        untranslatable=tuple(_here(one) for one in content.untranslatable),
        droppable=tuple(_here(one) for one in content.droppable),
    )


def _chat(body: Body) -> dict[str, Any]:
    chat: dict[str, Any] = {name: value for name, value in body.items() if name in _SAME}
    chat["messages"] = _messages(body)
    if "max_output_tokens" in body:
        chat["max_completion_tokens"] = body["max_output_tokens"]
    reasoning = _known(optional_object(body, "reasoning"), "reasoning", frozenset({"effort"}))
    if "effort" in reasoning:
        chat["reasoning_effort"] = reasoning["effort"]
    text = _known(optional_object(body, "text"), "text", frozenset({"format", "verbosity"}))
    if "verbosity" in text:
        chat["verbosity"] = text["verbosity"]
    if "format" in text:
        chat |= _format(optional_object(text, "format"))
    if body.get("tools"):
        chat["tools"] = [_tool(tool, f"tools.{index}") for index, tool in enumerate(objects(body["tools"], "tools"))]
        if "tool_choice" in body:
            chat["tool_choice"] = _tool_choice(body["tool_choice"])
    if flag(body, "stream"):
        chat["stream_options"] = {"include_usage": True}
    return chat


def _messages(body: Body) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    if instructions := body.get("instructions"):
        messages.append({"role": "system", "content": instructions})
    given = body.get("input")
    if isinstance(given, str):
        return [*messages, {"role": "user", "content": given}]
    for index, item in enumerate(objects(given, "input")):
        _add(messages, item, f"input.{index}")
    return messages


def _add(messages: list[dict[str, Any]], item: Body, place: str) -> None:
    """Add an item; calls of tools join the message of the assistant that they follow."""
    kind = item.get("type", "message")
    if kind == "message":
        messages.append({"role": _role(item, place), "content": _content(item.get("content"), f"{place}.content")})
    elif kind == "function_call":
        function = {"name": item.get("name"), "arguments": item.get("arguments")}
        call = {"id": item.get("call_id"), "type": "function", "function": function}
        if not messages or messages[-1]["role"] != "assistant":
            messages.append({"role": "assistant", "content": None})
        messages[-1].setdefault("tool_calls", []).append(call)
    elif kind == "function_call_output":
        content = _content(item.get("output"), f"{place}.output")
        messages.append({"role": "tool", "tool_call_id": item.get("call_id"), "content": content})
    else:
        raise unsupported(f"{place}.type", "Items are messages, function calls and their outputs.")


def _role(item: Body, place: str) -> str:
    role = item.get("role")
    if role not in _ROLES:
        raise Invalid(f"A message has one of the roles {', '.join(_ROLES)}.", field=f"{place}.role")
    return str(role)


def _content(given: object, place: str) -> str | list[dict[str, Any]]:
    if isinstance(given, str):
        return given
    parts = [_part(part, f"{place}.{index}") for index, part in enumerate(objects(given, place))]
    is_one_text = len(parts) == 1 and parts[0]["type"] == "text"
    return cast(str, parts[0]["text"]) if is_one_text else parts


def _part(part: Body, place: str) -> dict[str, Any]:
    kind = str(part.get("type"))
    if kind == "input_image" and isinstance(part.get("image_url"), str):
        detail = {"detail": part["detail"]} if part.get("detail") is not None else {}
        return {"type": "image_url", "image_url": {"url": part["image_url"], **detail}}
    name = _PARTS.get(kind)
    if name is None or not isinstance(part.get("refusal" if kind == "refusal" else "text"), str):
        raise unsupported(place, "Parts are texts, and images with an image_url.")
    return {"type": name, name: part[name]}


def _format(wanted: Body) -> dict[str, Any]:
    if wanted.get("type") == "json_schema":
        return {
            "response_format": {"type": "json_schema", "json_schema": {k: wanted[k] for k in wanted if k != "type"}}
        }
    return {} if wanted.get("type") == "text" else {"response_format": dict(wanted)}


def _tool(tool: Body, place: str) -> dict[str, Any]:
    if tool.get("type") != "function":
        raise unsupported(f"{place}.type", "Tools that the provider runs itself have no price here.")
    names = ("name", "description", "parameters", "strict")
    further = tool.keys() - {"type", *names}
    if further:
        raise unsupported(place, "A function tool has name, description, parameters and strict.")
    return {"type": "function", "function": {name: tool[name] for name in names if tool.get(name) is not None}}


def _tool_choice(choice: object) -> object:
    if isinstance(choice, str):
        return choice
    if isinstance(choice, dict) and cast(Body, choice).get("type") == "function":
        return {"type": "function", "function": {"name": cast(Body, choice).get("name")}}
    raise unsupported("tool_choice", "tool_choice is auto, none, required, or a function.")


def _known(given: Body, field: str, names: frozenset[str]) -> Body:
    said: Mapping[str, Any] = {name: value for name, value in given.items() if value is not None}
    further: Sequence[str] = sorted(said.keys() - names)
    if further:
        raise unsupported(f"{field}.{further[0]}" if further[0] in _REASONING else field)
    return said


_REASONING = frozenset({"summary", "generate_summary", "context", "mode"})


def _here(field: str) -> str:
    """The name that a field of a chat completion has on this wire."""
    head, _, rest = field.partition(".")
    name = _FIELD_HERE.get(head, head)
    return name if name == "input" or not rest else f"{name}.{rest}"
