"""Routes that declare who may call them: enforced before the body is read; start-up refuses a route without it."""

from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeVar
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, Response, WebSocket, WebSocketException, status
from fastapi.routing import APIRoute, APIWebSocketRoute, iter_route_contexts
from starlette.routing import BaseRoute
from starlette.types import Message, Receive

from auterity_dagster.errors import AuterityError, ConfigurationInvalid
from auterity_dagster.identity.permission import Permission
from auterity_dagster.serving.authentication import authenticate

AuthenticationKind = Literal["public", "user", "api_key", "user_or_api_key", "refresh_token", "signature", "ticket"]
"""`user`: access token. `signature`, `refresh_token`, `ticket`: checked by the handler, on raw body or first frame."""

RoutePermission = Permission | Literal["public", "signed_in"]
AuditClass = Literal["none", "change", "security"]
"""What the route leaves in the audit log: nothing, an entry for its change, or one for signing in and out."""

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Declaration:
    """What a route says about itself."""

    authentication: AuthenticationKind
    permission: RoutePermission
    body_limit_bytes: int
    audit_class: AuditClass

    def __post_init__(self) -> None:
        if (self.authentication == "public") != (self.permission == "public"):
            raise ConfigurationInvalid('authentication "public" and permission "public" only go together')
        if self.body_limit_bytes < 0:
            raise ConfigurationInvalid("body_limit_bytes is a number of bytes")


class DeclaredRoute(APIRoute):
    """An HTTP route that lets a request in only as it declared, before any of the body is read."""

    declaration: ClassVar[Declaration]

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()
        declaration = self.declaration

        async def admit_and_handle(request: Request) -> Response:
            kind = declaration.authentication
            if kind in ("user", "api_key", "user_or_api_key"):
                await authenticate(request, kind=kind, permission=declaration.permission)
            return await handler(Request(request.scope, _bounded(request, declaration.body_limit_bytes)))

        return admit_and_handle


class DeclaredRouter(APIRouter):
    """An `APIRouter` whose routes cannot be written without declaring who may call them."""

    def get(self, path: str, **declared: Any) -> Callable[[Endpoint], Endpoint]:  # type: ignore[override]
        """Declare a GET route; see `declared`."""
        return self.declared("GET", path, **declared)

    def post(self, path: str, **declared: Any) -> Callable[[Endpoint], Endpoint]:  # type: ignore[override]
        """Declare a POST route; see `declared`."""
        return self.declared("POST", path, **declared)

    def put(self, path: str, **declared: Any) -> Callable[[Endpoint], Endpoint]:  # type: ignore[override]
        """Declare a PUT route; see `declared`."""
        return self.declared("PUT", path, **declared)

    def patch(self, path: str, **declared: Any) -> Callable[[Endpoint], Endpoint]:  # type: ignore[override]
        """Declare a PATCH route; see `declared`."""
        return self.declared("PATCH", path, **declared)

    def delete(self, path: str, **declared: Any) -> Callable[[Endpoint], Endpoint]:  # type: ignore[override]
        """Declare a DELETE route; see `declared`."""
        return self.declared("DELETE", path, **declared)

    def declared(
        self,
        method: str,
        path: str,
        *,
        authentication: AuthenticationKind,
        permission: RoutePermission,
        body_limit_bytes: int,
        audit_class: AuditClass,
        problems: Sequence[int] = (),
        **options: Any,
    ) -> Callable[[Endpoint], Endpoint]:
        """Declare a route; `options` are FastAPI's own (`status_code`, `response_model`, …); 0 bytes means no body.

        `problems` are error statuses that do not follow from the declaration; the OpenAPI document lists them.
        """
        declaration = Declaration(authentication, permission, body_limit_bytes, audit_class)
        # A class a route: FastAPI makes the route itself, and again for each inclusion of its router.
        route_class = type("DeclaredRoute", (DeclaredRoute,), {"declaration": declaration})

        def add(endpoint: Endpoint) -> Endpoint:
            self.add_api_route(
                path,
                endpoint,
                methods=[method],
                route_class_override=route_class,
                openapi_extra=_documented(declaration, problems) | options.pop("openapi_extra", {}),
                **options,
            )
            return endpoint

        return add

    def websocket(  # type: ignore[override]
        self,
        path: str,
        *,
        authentication: AuthenticationKind,
        permission: RoutePermission,
        body_limit_bytes: int,
        audit_class: AuditClass,
    ) -> Callable[[Endpoint], Endpoint]:
        """Declare a WebSocket route; `body_limit_bytes` is the largest frame, which the handler refuses beyond."""
        declaration = Declaration(authentication, permission, body_limit_bytes, audit_class)

        async def admit(websocket: WebSocket) -> None:
            _require_same_origin(websocket)
            if authentication in ("user", "api_key", "user_or_api_key"):
                try:
                    await authenticate(websocket, kind=authentication, permission=permission)
                except AuterityError as error:
                    raise WebSocketException(status.WS_1008_POLICY_VIOLATION, reason=error.code) from error

        def add(endpoint: Endpoint) -> Endpoint:
            self.add_api_websocket_route(path, endpoint, dependencies=[Depends(admit)])
            self.routes[-1].declaration = declaration  # type: ignore[attr-defined]
            return endpoint

        return add


def raw_body(*content_types: str) -> dict[str, Any]:
    """Return what the OpenAPI document says of a body that its handler reads as bytes: its `openapi_extra`."""
    content = {one: {"schema": {"type": "string", "format": "binary"}} for one in content_types}
    return {"requestBody": {"required": True, "content": content}}


def declarations(app: FastAPI) -> Iterator[tuple[str, str, Declaration | None]]:
    """Yield each route's path, methods and declaration, included routers and documentation too."""
    for context in iter_route_contexts(app.router.routes):
        route = context.original_route
        methods = (
            "WEBSOCKET" if isinstance(route, APIWebSocketRoute) else " ".join(sorted(context.methods or {"MOUNT"}))
        )
        yield str(context.path or route), methods, _declaration_of(route)


def verify_declared(app: FastAPI) -> None:
    """Refuse to start with a route that does not declare itself, whoever added it."""
    undeclared = [f"{methods} {path}" for path, methods, declaration in declarations(app) if declaration is None]
    # What `app.frontend` serves is in no list of routes.
    undeclared += [str(route) for route in getattr(app.router, "_low_priority_routes", ())]
    if undeclared:
        raise ConfigurationInvalid(f"routes without a declaration: {', '.join(undeclared)}")


def _documented(declaration: Declaration, problems: Sequence[int]) -> dict[str, Any]:
    return {
        "x-authentication": declaration.authentication,
        "x-permission": str(declaration.permission),
        "x-body-limit-bytes": declaration.body_limit_bytes,
        "x-problems": list(problems),
    }


def _declaration_of(route: BaseRoute) -> Declaration | None:
    declared = getattr(route, "declaration", None)
    return declared if isinstance(declared, Declaration) else None


def _bounded(request: Request, limit_bytes: int) -> Receive:
    """Return the request's `receive`, which ends in 413 once more than the limit has arrived or is announced.

    FastAPI's own limit answers in plain text, and replaces a 401 by a 413.
    """
    arrived = 0

    async def receive() -> Message:
        nonlocal arrived
        announced = request.headers.get("content-length", "0")
        if announced.isdecimal() and int(announced) > limit_bytes:
            raise HTTPException(status.HTTP_413_CONTENT_TOO_LARGE)
        message = await request.receive()
        arrived += len(message.get("body", b""))
        if arrived > limit_bytes:
            raise HTTPException(status.HTTP_413_CONTENT_TOO_LARGE)
        return message

    return receive


def _require_same_origin(websocket: WebSocket) -> None:
    """Browsers always send Origin with a WebSocket and let any page open one: only our own pages may."""
    origin = websocket.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != websocket.headers.get("host"):
        raise WebSocketException(status.WS_1008_POLICY_VIOLATION, reason="foreign_origin")
