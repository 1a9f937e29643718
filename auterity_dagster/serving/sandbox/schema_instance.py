"""The smallest instance that a JSON schema admits: what the sandbox answers where a schema or a tool asks for one."""

from collections.abc import Callable, Mapping
from math import ceil
from typing import Any

Schema = Mapping[str, Any]
Chosen = Callable[[str, Schema], Any]
"""Says the value of a property by its name and schema, or returns `DEFAULT`."""

DEFAULT = object()
DEPTH_LIMIT = 32
_FORMATS = {
    "date": "2026-01-31",
    "date-time": "2026-01-31T10:00:00Z",
    "time": "10:00:00Z",
    "email": "someone@example.test",
    "uri": "https://example.test/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


def instance_of(schema: Schema, *, text: str, chosen: Chosen) -> Any:
    """Return an instance; `text` stands where a string may be anything. References are those inside the schema."""
    return _instance(schema, schema, name="", text=text, chosen=chosen, depth=0)


def _instance(schema: Schema, root: Schema, *, name: str, text: str, chosen: Chosen, depth: int) -> Any:
    def inner(part: Schema, inner_name: str = name) -> Any:
        return _instance(part, root, name=inner_name, text=text, chosen=chosen, depth=depth + 1)

    if depth > DEPTH_LIMIT:
        return None
    if "$ref" in schema:
        return inner(_referred(str(schema["$ref"]), root))
    for key in ("anyOf", "oneOf"):
        if schema.get(key):
            return inner(schema[key][0])
    if schema.get("allOf"):
        return inner({**schema, "allOf": None} | {k: v for part in schema["allOf"] for k, v in part.items()})
    if (value := chosen(name, schema)) is not DEFAULT:
        return value
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    kind = schema.get("type")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object" or "properties" in schema:
        return {key: inner(part, key) for key, part in (schema.get("properties") or {}).items()}
    if kind == "array":
        return [inner(schema.get("items") or {}) for _ in range(schema.get("minItems", 0))]
    if kind in ("integer", "number"):
        return _number(schema)
    return {"boolean": False, "null": None}.get(str(kind), _string(schema, text))


def _referred(reference: str, root: Schema) -> Schema:
    found: Any = root
    for part in reference.removeprefix("#/").split("/"):
        found = found[part] if part else found
    return found


def _number(schema: Schema) -> int | float:
    least = schema.get("minimum", schema.get("exclusiveMinimum"))
    most = schema.get("maximum", schema.get("exclusiveMaximum"))
    step = schema.get("multipleOf", 1)
    value = 0 if least is None or least < 0 else ceil(least / step) * step
    if least is not None and value == schema.get("exclusiveMinimum"):
        value += step
    if most is not None and value > most:
        return most
    return value


def _string(schema: Schema, text: str) -> str:
    if schema.get("format") in _FORMATS:
        return _FORMATS[schema["format"]]
    return text.ljust(schema.get("minLength", 0), ".")[: schema.get("maxLength")]
