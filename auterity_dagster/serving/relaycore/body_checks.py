"""Checks that the bodies of several wires share; each raises `Invalid` with the field's name, not its value."""

from collections.abc import Sequence
from typing import cast

from auterity_dagster.errors import Invalid
from auterity_dagster.serving.relaycore.wire import Body


def refuse_unknown(body: Body, known: frozenset[str]) -> None:
    """Refuse a field that is not known: some change what a provider bills, or where a body goes."""
    unknown = body.keys() - known
    if unknown:
        raise unsupported(min(unknown))


def unsupported(field: str, why: str | None = None) -> Invalid:
    """Return the refusal of a field, or of its value."""
    return Invalid(why or f"The field {field!r} is not supported.", code="unsupported_parameter", field=field)


def model_name(body: Body) -> str:
    """Return what the caller asks for: a deployment, a pool, an objective, or auto."""
    raw = body.get("model")
    if not isinstance(raw, str) or not 1 <= len(raw) <= 128:
        raise Invalid("model names a deployment, a pool such as pool/automotive, or auto.", field="model")
    return raw


def token_limit(body: Body, *names: str) -> int | None:
    """Return the first of the fields that is given."""
    for name in names:
        value = body.get(name)
        if value is not None:
            if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 1_000_000:
                raise Invalid(f"{name} is a whole number of at least 1.", field=name)
            return value
    return None


def flag(body: Body, name: str) -> bool:
    """Return a boolean that may be absent."""
    value = body.get(name, False)
    if not isinstance(value, bool | None):
        raise Invalid(f"{name} is true or false.", field=name)
    return bool(value)


def optional_object(body: Body, name: str) -> Body:
    """Return an object that may be absent: then an empty one."""
    value = body.get(name)
    if value is not None and not isinstance(value, dict):
        raise Invalid(f"{name} is an object.", field=name)
    return cast(Body, value or {})


def objects(value: object, field: str) -> Sequence[Body]:
    """Return a list of objects."""
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in cast(list[object], value)):
        raise Invalid(f"{field} is a list of objects.", field=field)
    return cast(Sequence[Body], value)


def filled_objects(value: object, field: str) -> Sequence[Body]:
    """Return a list of objects that is not empty."""
    found = objects(value, field)
    if not found:
        raise Invalid(f"{field} is a list that is not empty.", field=field)
    return found
