"""What an operator's tools ask of a gateway's process, on a port of their own: metrics, health, readiness."""

import asyncio
import socket
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from fastapi import FastAPI, Request, Response
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from auterity_dagster.errors import ConfigurationInvalid
from auterity_dagster.relaycore.draining import Drain
from auterity_dagster.serving.declared_router import DeclaredRouter, verify_declared
from auterity_dagster.serving.relaycore.metrics import Metrics

router = DeclaredRouter()


@router.get("/metrics", authentication="public", permission="public", body_limit_bytes=0, audit_class="none")
async def metrics(request: Request) -> Response:
    """Every metric in Prometheus' text format."""
    state: Metrics = request.app.state.metrics
    return Response(generate_latest(state.registry), media_type=CONTENT_TYPE_LATEST)


@router.get("/healthz", authentication="public", permission="public", body_limit_bytes=0, audit_class="none")
async def healthz() -> dict[str, str]:
    """Tell that the process answers."""
    return {"status": "ok"}


@router.get("/readyz", authentication="public", permission="public", body_limit_bytes=0, audit_class="none")
async def readyz(request: Request, response: Response) -> dict[str, str]:
    """Tell a load balancer whether to send new calls here: not once the process is about to end."""
    drain: Drain = request.app.state.drain
    response.status_code = 503 if drain.is_begun else 200
    return {"status": "draining" if drain.is_begun else "ready"}


def operations_app(metrics: Metrics, drain: Drain) -> FastAPI:
    """Return the app of that port."""
    app = FastAPI(title="Auterity gateway operations", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.metrics, app.state.drain = metrics, drain
    app.include_router(router)
    verify_declared(app)
    return app


@asynccontextmanager
async def serving_operations(metrics: Metrics, drain: Drain, *, host: str, port: int) -> AsyncGenerator[int]:
    """Answer on that port until the end; yield the port, which is a free one where 0 was asked for.

    Raises `ConfigurationInvalid` where the port is taken.
    """
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            raise ConfigurationInvalid(f"the metrics port {port} cannot be used: {error.strerror}") from error
        config = uvicorn.Config(operations_app(metrics, drain), log_level="warning", access_log=False, lifespan="off")
        server = _GuestServer(config)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            await serving


class _GuestServer(uvicorn.Server):
    """A second server of a process: signals are for the first one."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
