"""An app's OpenAPI document: what FastAPI reads off the routes, and the errors, credentials and limits they declare."""

from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from auterity_dagster.identity.permission import Permission

Document = dict[str, Any]

PROBLEM: Document = {
    "title": "Problem",
    "description": "An error as RFC 9457 writes it. `code` is stable, `detail` is for people; some errors say more.",
    "type": "object",
    "required": ["type", "title", "status", "code", "detail"],
    "properties": {
        "type": {"type": "string", "const": "about:blank"},
        "title": {"type": "string"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "code": {"type": "string"},
        "detail": {"type": "string"},
        "field": {"type": "string", "description": "The field that is wrong, where one is."},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["field", "message"],
                "properties": {"field": {"type": "string"}, "message": {"type": "string"}},
            },
        },
        "retry_after_s": {"type": "integer", "description": "Seconds to wait; the header `retry-after` says the same."},
    },
    "examples": [
        {
            "type": "about:blank",
            "title": "invalid_request",
            "status": 422,
            "code": "invalid_request",
            "detail": "not valid: cap_usd",
            "errors": [{"field": "cap_usd", "message": "String should match pattern '^[0-9]{1,7}'"}],
        }
    ],
}

MEANING: Mapping[int, str] = {
    400: "The request cannot be read.",
    401: "No credential, or one that is not valid.",
    402: "A budget has no room for this.",
    403: "The caller lacks the permission, or may not act for all that this touches.",
    404: "There is no such thing, or not for this caller.",
    409: "It contradicts what is there: taken, changed meanwhile, or over.",
    413: "The body is larger than the route takes.",
    415: "Not a content type that the route takes.",
    422: "A field is wrong; the problem names it.",
    429: "Too often; `retry-after` says how long to wait.",
    502: "The provider failed, and no other could stand in for it.",
    503: "Something that this needs is away; nothing was changed. `retry-after` says when to try again.",
    504: "The deadline passed before there was an answer.",
}

SECURITY_SCHEMES: Document = {
    "access_token": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "From `POST /api/v1/auth/login`; it lasts ten minutes.",
    },
    "api_key": {"type": "http", "scheme": "bearer", "description": "`auty_live_…`, from `POST /api/v1/api-keys`."},
}
_SCHEMES_OF: Mapping[str, list[str]] = {
    "user": ["access_token"],
    "api_key": ["api_key"],
    "user_or_api_key": ["access_token", "api_key"],
}


@dataclass(frozen=True, slots=True)
class ErrorShape:
    """How an app writes its errors: the schema's name and text, the content type, and the status of a wrong field."""

    name: str
    schema: Document
    content_type: str
    invalid_status: int


PROBLEMS = ErrorShape("Problem", PROBLEM, "application/problem+json", 422)


def install_openapi(
    app: FastAPI,
    *,
    examples: Mapping[str, Any],
    shape_of: Callable[[str], ErrorShape] = lambda _path: PROBLEMS,
    bare: Mapping[str, Document] = {},
) -> None:
    """Make `app.openapi()` return the complete document, built once.

    `examples` are bodies by their schema's name, `shape_of` tells a path's errors, and `bare` holds the paths that
    FastAPI knows nothing of.
    """

    def openapi() -> Document:
        if app.openapi_schema is None:
            document = get_openapi(title=app.title, version=app.version, routes=app.routes)
            document["paths"] |= deepcopy(dict(bare))  # completing it changes it, and the next app starts anew
            app.openapi_schema = completed(document, examples=examples, shape_of=shape_of)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def completed(
    document: Document, *, examples: Mapping[str, Any], shape_of: Callable[[str], ErrorShape] = lambda _path: PROBLEMS
) -> Document:
    """Return the document with every route's errors, its caller's credentials, and examples."""
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    for name in examples.keys() & schemas.keys():
        schemas[name]["examples"] = [examples[name]]
    components["securitySchemes"] = SECURITY_SCHEMES
    for path, operation in _operations(document):
        shape = shape_of(path)
        schemas[shape.name] = shape.schema
        responses: Document = operation["responses"]
        responses.pop("422", None)
        for status in sorted(error_statuses(operation, invalid_status=shape.invalid_status)):
            responses[str(status)] = {
                "description": MEANING[status],
                "content": {shape.content_type: {"schema": {"$ref": f"#/components/schemas/{shape.name}"}}},
            }
        operation["security"] = [{name: []} for name in _SCHEMES_OF.get(operation["x-authentication"], [])]
    return document


def error_statuses(operation: Document, *, invalid_status: int) -> set[int]:
    """Return the error statuses that an operation can answer by what it declares, and those it names itself."""
    found = {503, *operation.pop("x-problems", ())}
    if operation["x-authentication"] != "public":
        found.add(401)
    if operation["x-permission"] in {one.value for one in Permission}:
        found.add(403)
    parameters = operation.get("parameters", ())
    if any(one["in"] == "path" for one in parameters):
        found.add(404)
    if parameters:
        found.add(invalid_status)
    if operation["x-body-limit-bytes"]:
        found |= {413, invalid_status}
    return found


def _operations(document: Document) -> Iterator[tuple[str, Document]]:
    for path, operations in document["paths"].items():
        for operation in operations.values():
            yield path, operation
