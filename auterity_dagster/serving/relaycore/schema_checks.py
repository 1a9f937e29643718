"""Whether a whole answer is the JSON that its request asked for: an object, or what its JSON Schema allows.

Looked at only where the model ended by itself with words: a text that the token limit cut, a refusal and a call of a
tool are no broken JSON. A stream's words have left before they could be looked at.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, cast

import orjson
from jsonschema_rs import FancyRegexOptions, ValidationError, Validator, validator_for

from auterity_dagster.errors import Invalid
from auterity_dagster.relaycore.chat import ProviderAnswer, WireName

COMPILED = 256
"""So many schemas are kept: a program asks with the same few again and again."""

BACKTRACKS = 10_000
"""A pattern may not try more than this: both it and the text come from outside."""

_ANY_OBJECT: Mapping[str, object] = {"type": "object"}


class SchemaChecks:
    """Compiles callers' schemas, which may refer to nothing outside themselves, and holds answers against them."""

    def __init__(self) -> None:
        self._compiled: OrderedDict[bytes, Validator] = OrderedDict()

    def require_usable(self, body: Mapping[str, Any], wire: WireName) -> None:
        """Raise `Invalid` naming the field where the schema that is asked for is none."""
        schema = _asked_schema(body, wire)
        if schema is None:
            return
        try:
            self._validator(schema)
        except ValidationError as error:
            field = "response_format" if wire == "openai" else "output_config.format"
            raise Invalid("The schema is no JSON Schema, or refers to another one.", field=field) from error

    def is_broken(self, body: Mapping[str, Any], wire: WireName, answer: ProviderAnswer) -> bool:
        """True if the answer, on its caller's wire, is not what the body asks for."""
        schema = _asked_schema(body, wire)
        text = _said_text(orjson.loads(answer.body), wire) if schema is not None else None
        if schema is None or text is None:
            return False
        try:
            return not self._validator(schema).is_valid(orjson.loads(text))
        except (orjson.JSONDecodeError, ValidationError):
            return True

    def _validator(self, schema: Mapping[str, Any]) -> Validator:
        digest = hashlib.sha256(orjson.dumps(schema)).digest()
        found = self._compiled.get(digest)
        if found is None:
            options = FancyRegexOptions(backtrack_limit=BACKTRACKS)
            found = self._compiled[digest] = validator_for(dict(schema), offline=True, pattern_options=options)
            if len(self._compiled) > COMPILED:
                self._compiled.popitem(last=False)
        return found


def _asked_schema(body: Mapping[str, Any], wire: WireName) -> Mapping[str, Any] | None:
    wanted: Mapping[str, Any] = body.get("response_format") or {}
    if wire == "anthropic":
        wanted = (body.get("output_config") or {}).get("format") or {}
    if wanted.get("type") == "json_object":
        return _ANY_OBJECT
    if wanted.get("type") != "json_schema":
        return None
    schema = wanted.get("schema") if wire == "anthropic" else (wanted.get("json_schema") or {}).get("schema")
    return cast(Mapping[str, Any], schema) if isinstance(schema, dict) else _ANY_OBJECT


def _said_text(answer: Mapping[str, Any], wire: WireName) -> str | None:
    """The words of an answer that ended by itself; None for any other."""
    if wire == "openai":
        choice = answer["choices"][0]
        said = choice["message"]
        ended = choice.get("finish_reason") == "stop" and not said.get("tool_calls") and not said.get("refusal")
        return said.get("content") if ended else None
    if answer.get("stop_reason") != "end_turn":
        return None
    return "".join(block["text"] for block in answer["content"] if block["type"] == "text")
