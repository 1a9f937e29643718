"""The JSON Schema of a steering policy, made from the models that read it: for editors and for who writes policies.

It says of a policy what can be said without looking elsewhere in it: references, prices, priorities and the policy's
own tests are checked when it is read.
"""

import json
from collections.abc import Mapping
from typing import Any

from auterity_dagster.relaycore.steering_condition import FIELDS, METADATA, OPERATORS_OF_KIND, Kind
from auterity_dagster.relaycore.steering_policy import SteeringPolicy

VALUE_OF_KIND: Mapping[Kind, dict[str, Any]] = {
    "text": {"type": "string"},
    "number": {"type": "number"},
    "truth": {"type": "boolean"},
    "texts": {"type": "string"},
}
METADATA_PATTERN = f"^{METADATA.pattern}$"


def schema_text() -> str:
    """Return the JSON Schema (2020-12) of a policy, as `config/schemas/steering.json` holds it."""
    schema = SteeringPolicy.model_json_schema(by_alias=True, mode="validation")
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    parts = schema["$defs"]
    parts |= {"Condition": _condition(), "Facts": _facts()} | {_test_name(kind): _test(kind) for kind in VALUE_OF_KIND}
    parts["Rule"]["properties"]["when"] = {"$ref": "#/$defs/Condition"}
    parts["PolicyTest"]["properties"]["given"] = {"$ref": "#/$defs/Facts"}
    is_served = {"properties": {"provider": {"const": "served"}}, "required": ["provider"]}
    parts["WrittenDeployment"] |= {
        "if": is_served,
        "then": {"required": ["alias"]},
        "else": {"required": ["credential"]},
    }
    return json.dumps(schema, indent=2, sort_keys=True) + "\n"


def _condition() -> dict[str, Any]:
    condition = {"$ref": "#/$defs/Condition"}
    several = {"type": "array", "items": condition, "minItems": 1}
    of_field = {name: {"$ref": f"#/$defs/{_test_name(kind)}"} for name, kind in FIELDS.items()}
    one_key = _one_of({"all": several, "any": several, "not": condition, **of_field})
    one_key["patternProperties"] = {METADATA_PATTERN: {"$ref": f"#/$defs/{_test_name('text')}"}}
    return {"anyOf": [{"const": "always"}, one_key]}


def _test(kind: Kind) -> dict[str, Any]:
    """One operator and its value."""
    value = VALUE_OF_KIND[kind]
    special = {"in": {"type": "array", "items": value, "minItems": 1}, "exists": {"type": "boolean"}}
    return _one_of({operator: special.get(operator, value) for operator in sorted(OPERATORS_OF_KIND[kind])})


def _facts() -> dict[str, Any]:
    """What an embedded test gives: fields with values."""
    text = VALUE_OF_KIND["text"]
    texts = {"anyOf": [text, {"type": "array", "items": text}]}
    return {
        "type": "object",
        "properties": {name: texts if kind == "texts" else VALUE_OF_KIND[kind] for name, kind in FIELDS.items()},
        "patternProperties": {METADATA_PATTERN: text},
        "additionalProperties": False,
    }


def _one_of(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": dict(properties),
        "additionalProperties": False,
        "minProperties": 1,
        "maxProperties": 1,
    }


def _test_name(kind: Kind) -> str:
    return f"TestOf{kind.title()}"
