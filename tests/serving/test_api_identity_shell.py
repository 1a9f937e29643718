"""The API's shell: every route is declared, every failure is a problem document, every body is bounded."""

from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI, WebSocket
from pydantic import BaseModel, ConfigDict, SecretStr

from auterity_dagster.errors import ConfigurationInvalid
from auterity_dagster.identity.permission import Permission
from auterity_dagster.serving.authentication import CurrentPrincipal
from auterity_dagster.serving.declared_router import DeclaredRouter, declarations, verify_declared
from auterity_dagster.serving.http_errors import install_error_handlers


class Parcel(BaseModel):
    model_config = ConfigDict(extra="forbid")

    weight: int
    note: SecretStr | None = None


def small_app() -> FastAPI:
    router = DeclaredRouter(prefix="/parcels")

    @router.post("", authentication="public", permission="public", body_limit_bytes=64, audit_class="none")
    async def post_parcel(parcel: Parcel) -> int:
        return parcel.weight

    @router.get("/broken", authentication="public", permission="public", body_limit_bytes=0, audit_class="none")
    async def broken() -> int:
        raise ZeroDivisionError("s3cret in a message")

    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    install_error_handlers(app)
    app.include_router(router, prefix="/api")
    return app


@pytest.fixture
def client() -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=small_app(), raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="https://auterity.test")


async def test_the_whole_api_is_declared(api) -> None:
    undeclared = [path for path, _, declaration in declarations(api.app) if declaration is None]

    assert undeclared == []
    assert len(list(declarations(api.app))) >= 3


@pytest.mark.parametrize("plant", ["route", "websocket", "documentation", "included", "mount", "frontend"])
def test_an_undeclared_route_stops_the_start(plant: str, tmp_path: Path) -> None:
    app = small_app()
    if plant == "route":
        app.get("/bare")(lambda: None)
    elif plant == "websocket":

        async def bare(websocket: WebSocket) -> None: ...

        app.add_api_websocket_route("/bare", bare)
    elif plant == "documentation":
        app = FastAPI()
    elif plant == "included":
        inner = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
        inner.get("/bare")(lambda: None)
        app.include_router(inner.router, prefix="/deep")
    elif plant == "mount":
        app.mount("/bare", FastAPI())
    else:
        app.frontend("/pages", directory=tmp_path)

    with pytest.raises(ConfigurationInvalid, match="routes without a declaration"):
        verify_declared(app)


def test_a_declared_app_starts() -> None:
    verify_declared(small_app())


@pytest.mark.parametrize("missing", ["authentication", "permission", "body_limit_bytes", "audit_class"])
def test_a_route_cannot_be_written_without_each_part_of_its_declaration(missing: str) -> None:
    declared = {
        "authentication": "user",
        "permission": Permission.AUDIT_READ,
        "body_limit_bytes": 0,
        "audit_class": "none",
    }
    del declared[missing]

    with pytest.raises(TypeError, match=missing):
        DeclaredRouter().get("/x", **declared)


def test_public_means_both_or_neither() -> None:
    with pytest.raises(ConfigurationInvalid, match="only go together"):
        DeclaredRouter().get(
            "/x", authentication="public", permission=Permission.AUDIT_READ, body_limit_bytes=0, audit_class="none"
        )


async def test_a_body_over_the_limit_is_refused_whether_it_says_so_or_not(client: httpx.AsyncClient) -> None:
    async def in_pieces():
        for _ in range(10):
            yield b'{"weight": 1, "x'

    told = await client.post("/api/parcels", content=b"{" + b" " * 64)
    untold = await client.post("/api/parcels", content=in_pieces(), headers={"content-type": "application/json"})

    for response in (told, untold):
        assert response.status_code == 413
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json()["code"] == "body_too_large"


async def test_a_body_within_the_limit_is_taken(client: httpx.AsyncClient) -> None:
    response = await client.post("/api/parcels", json={"weight": 3})

    assert response.json() == 3


async def test_a_wrong_field_is_named_and_its_value_is_not_repeated(client: httpx.AsyncClient) -> None:
    response = await client.post("/api/parcels", json={"weight": "hunter2", "extra": "hunter2"})

    assert response.status_code == 422
    assert {error["field"] for error in response.json()["errors"]} == {"weight", "extra"}
    assert "hunter2" not in response.text


async def test_broken_json_is_a_problem_and_is_not_repeated(client: httpx.AsyncClient) -> None:
    response = await client.post(
        "/api/parcels", content=b'{"weight": hunter2}', headers={"content-type": "application/json"}
    )

    assert response.status_code == 422
    assert "hunter2" not in response.text


async def test_an_unexpected_failure_tells_nothing(client: httpx.AsyncClient) -> None:
    response = await client.get("/api/parcels/broken")

    assert response.status_code == 500
    assert response.json()["code"] == "internal_error"
    assert "s3cret" not in response.text


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nowhere", 404), ("DELETE", "/healthz", 405)])
async def test_unknown_routes_are_problems_too(api, method: str, path: str, status: int) -> None:
    response = await api.anonymous.request(method, path)

    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["x-content-type-options"] == "nosniff"


async def test_health_documentation_and_description_need_no_sign_in(api) -> None:
    health, docs, document = [await api.anonymous.get(path) for path in ("/healthz", "/docs", "/openapi.json")]

    assert health.text == "ok"
    assert "<script" not in docs.text
    assert document.json()["info"]["title"] == "Auterity API"
    assert "default-src 'self'" in docs.headers["content-security-policy"]


class Socket:
    """What a WebSocket client sends and sees, one ASGI message at a time."""

    def __init__(self) -> None:
        self.sent: list[dict] = []

    async def receive(self) -> dict:
        return {"type": "websocket.connect"}

    async def send(self, message) -> None:
        self.sent.append(dict(message))


@pytest.mark.parametrize(
    ("headers", "answer"),
    [
        ({}, "websocket.close"),
        ({"authorization": "Bearer forged"}, "websocket.close"),
        ({"authorization": "TOKEN", "origin": "https://evil.test"}, "websocket.close"),
        ({"authorization": "TOKEN", "origin": "https://auterity.test"}, "websocket.accept"),
        ({"authorization": "TOKEN"}, "websocket.accept"),
    ],
)
async def test_a_websocket_lets_in_whom_it_declares(api, headers: dict[str, str], answer: str) -> None:
    router = DeclaredRouter()

    @router.websocket(
        "/live", authentication="user", permission=Permission.EXECUTION_READ, body_limit_bytes=64, audit_class="none"
    )
    async def live(websocket: WebSocket, principal: CurrentPrincipal) -> None:
        assert principal.id == api.owner_id
        await websocket.accept()

    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    app.include_router(router, prefix="/api")
    verify_declared(app)
    token = api.owner.headers["authorization"]
    presented = [(name.encode(), value.replace("TOKEN", token).encode()) for name, value in headers.items()]
    socket = Socket()

    await app(
        {
            "type": "websocket",
            "path": "/api/live",
            "query_string": b"",
            "root_path": "",
            "headers": [(b"host", b"auterity.test"), *presented],
            "state": {"authentication": api.state.authentication},
            "extensions": {},
        },
        socket.receive,
        socket.send,
    )

    assert socket.sent[0]["type"] == answer


async def test_a_text_that_postgresql_cannot_hold_is_refused_and_not_an_outage(api) -> None:
    answer = await api.anonymous.post("/api/v1/auth/login", json={"email": "a\x00b@example.test", "password": "x"})

    assert (answer.status_code, answer.json()["code"]) == (422, "unstorable_value")
