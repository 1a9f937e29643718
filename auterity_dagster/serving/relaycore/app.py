"""The gateway's process: settings, connections and background work composed into one ASGI app."""

import asyncio
import gc
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import cached_property
from typing import Any

from fastapi import FastAPI
from redis.asyncio import Redis
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from auterity_dagster.background import running_beside
from auterity_dagster.clock import SystemClock
from auterity_dagster.identity.access_token import access_tokens
from auterity_dagster.identity.permission import Permission
from auterity_dagster.identity.secret_file import read_pepper, read_secret
from auterity_dagster.relaycore.answer_cache import AnswerCache
from auterity_dagster.relaycore.draining import Drain
from auterity_dagster.relaycore.gateway import Gateway
from auterity_dagster.relaycore.ports import AnswerStore, Ledger
from auterity_dagster.relaycore.relay import Streams
from auterity_dagster.relaycore.retrying import RetryBudget
from auterity_dagster.relaycore.rule_traffic import RuleTraffic
from auterity_dagster.relaycore.shadow_traffic import ShadowTraffic
from auterity_dagster.relaycore.shedding import Places
from auterity_dagster.serving.authentication import Authentication
from auterity_dagster.serving.declared_router import Declaration, verify_declared
from auterity_dagster.serving.openapi_document import install_openapi
from auterity_dagster.serving.relaycore import feedback, finished_requests, models, routes
from auterity_dagster.serving.relaycore.catalog import RefreshingCatalog
from auterity_dagster.serving.relaycore.chat_wire import ChatWire
from auterity_dagster.serving.relaycore.count_tokens import CountTokens
from auterity_dagster.serving.relaycore.embeddings_wire import EmbeddingsWire
from auterity_dagster.serving.relaycore.endpoint import Endpoint
from auterity_dagster.serving.relaycore.gateway_request import BODY_LIMIT_BYTES
from auterity_dagster.serving.relaycore.idempotency import IdempotentAnswers
from auterity_dagster.serving.relaycore.messages_wire import MessagesWire
from auterity_dagster.serving.relaycore.observation import observed
from auterity_dagster.serving.relaycore.predictors import LoadedPredictors
from auterity_dagster.serving.relaycore.presence import Presence
from auterity_dagster.serving.relaycore.providers import ConfiguredProviders
from auterity_dagster.serving.relaycore.request_log import RequestWriter
from auterity_dagster.serving.relaycore.responses_wire import ResponsesWire
from auterity_dagster.serving.relaycore.route_errors import install_wire_error_handlers
from auterity_dagster.serving.relaycore.schema_checks import SchemaChecks
from auterity_dagster.serving.relaycore.state import GatewayState
from auterity_dagster.serving.relaycore.wire_documents import EXAMPLES, WIRE_PATHS, error_shape_of
from auterity_dagster.settings import GatewaySettings
from auterity_dagster.storage.database import Database
from auterity_dagster.storage.object_store import ObjectStore
from auterity_dagster.storage.redis_answers import RedisAnswers
from auterity_dagster.storage.redis_key_epochs import KeyEpochs
from auterity_dagster.storage.redis_rate_limits import RedisRateLimits
from auterity_dagster.storage.repositories.allowances import PostgresAllowances
from auterity_dagster.storage.repositories.application_role import require_bound_role
from auterity_dagster.storage.repositories.budget_alerts import announce_for_ever
from auterity_dagster.storage.repositories.ledger import open_ledger
from auterity_dagster.storage.repositories.shadow_pairs import PostgresShadowPairs

OpenLedger = Callable[[str], AbstractAsyncContextManager[Ledger]]
ENDPOINTS: Mapping[str, Endpoint] = {
    "/v1/chat/completions": Endpoint(ChatWire()),
    "/v1/responses": Endpoint(ResponsesWire()),
    "/v1/embeddings": Endpoint(EmbeddingsWire()),
    "/v1/messages": Endpoint(MessagesWire()),
    "/v1/messages/count_tokens": CountTokens(),
}
REDIS_S = 2.0
"""When a connection to Redis is given up; whoever asks it waits far less."""

GC_THRESHOLDS = (50_000, 50, 50)
"""Requests make much short-lived garbage: Python's default of 700 objects costs a quarter of the CPU here."""


class DeclaredAsgiRoute(Route):
    """A bare ASGI callable that declares itself like every other route; the callable enforces what it declares."""

    def __init__(self, path: str, endpoint: Any, *, methods: list[str], declaration: Declaration) -> None:
        super().__init__(path, endpoint, methods=methods)
        self.declaration = declaration


class GatewayApp(FastAPI):
    """Calls its bare routes by method and path itself: they need none of the framework's middleware and matching."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            endpoint = self._bare_endpoints.get((scope["method"], scope["path"]))
            if endpoint is not None:
                await endpoint(scope, receive, send)
                return
        await super().__call__(scope, receive, send)

    @cached_property
    def _bare_endpoints(self) -> Mapping[tuple[str, str], ASGIApp]:
        bare = [route for route in self.router.routes if isinstance(route, DeclaredAsgiRoute)]
        return {(method, route.path): route.app for route in bare for method in route.methods or ()}


def create_app() -> FastAPI:
    """Compose the gateway from its environment, for `uvicorn --factory`."""
    return build_app(GatewaySettings())  # pyright: ignore[reportCallIssue]


def build_app(
    settings: GatewaySettings,
    *,
    opened: OpenLedger = open_ledger,
    places: Callable[[int], Places] = Places,
    retries: Callable[[], RetryBudget] = RetryBudget,
    cached: Callable[[AnswerStore], AnswerCache] = AnswerCache,
    providers: Callable[[GatewaySettings], ConfiguredProviders] = ConfiguredProviders,
    streams: Callable[[], Streams] = Streams,
) -> FastAPI:
    """Return the app. It does not start with a broken policy, price list or secret: `ConfigurationInvalid`."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncGenerator[dict[str, Any]]:
        async with AsyncExitStack() as stack:
            state = await _composed(
                settings,
                stack,
                opened,
                places(settings.gateway_places),
                retries(),
                cached,
                providers=providers(settings),
                relayed=streams(),
            )
            gc.collect()
            gc.freeze()
            gc.set_threshold(*GC_THRESHOLDS)
            yield {"relaycore": state, "authentication": state.authentication}

    app = GatewayApp(title="Auterity gateway", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    install_wire_error_handlers(app)
    for router in (routes.router, models.router, finished_requests.router, feedback.router):
        app.include_router(router)
    declaration = Declaration("api_key", Permission.GATEWAY_CALL, BODY_LIMIT_BYTES, "none")
    for path, endpoint in ENDPOINTS.items():
        app.router.routes.append(DeclaredAsgiRoute(path, endpoint, methods=["POST"], declaration=declaration))
    verify_declared(app)
    install_openapi(app, examples=EXAMPLES, shape_of=error_shape_of, bare=WIRE_PATHS)
    return app


async def _composed(
    settings: GatewaySettings,
    stack: AsyncExitStack,
    opened: OpenLedger,
    places: Places,
    retries: RetryBudget,
    cached: Callable[[AnswerStore], AnswerCache],
    *,
    providers: ConfiguredProviders,
    relayed: Streams,
) -> GatewayState:
    """Open everything in the order in which it is needed; the stack closes it in reverse."""
    stack.push_async_callback(providers.close)
    database = Database(str(settings.database_url), pool_size=5)
    stack.push_async_callback(database.close)
    await require_bound_role(database)
    predictors = LoadedPredictors(ObjectStore(settings.data_dir / "objects"))
    catalog = RefreshingCatalog(database, providers, settings.config_dir, predictors)
    ledger = await stack.enter_async_context(opened(str(settings.database_url)))
    log = RequestWriter(database)
    stack.push_async_callback(log.flush)
    drain = Drain(within_s=settings.gateway_drain_s)
    seen = await observed(stack, settings, catalog=catalog, ledger=ledger, log=log, places=places, drain=drain)
    streams = await stack.enter_async_context(_draining(drain))
    redis = Redis.from_url(str(settings.redis_url), socket_timeout=REDIS_S, socket_connect_timeout=REDIS_S)
    stack.push_async_callback(redis.aclose)
    presence, epochs = Presence(database), KeyEpochs(redis)
    limits = RedisRateLimits(redis, limits_of=catalog.rate_limits, live=lambda: presence.live)
    await stack.enter_async_context(
        running_beside(
            catalog.watch(),
            catalog.listen(str(settings.database_url)),
            log.write_for_ever(),
            announce_for_ever(database),
            presence.beat_for_ever(),
            limits.correct_for_ever(),
            epochs.watch_for_ever(),
        )
    )
    clock, allowances, schemas = SystemClock(), PostgresAllowances(database), SchemaChecks()
    pepper = read_pepper(settings.secrets_dir)
    tokens = access_tokens(read_secret(settings.secrets_dir, "signing_key.pem"), clock=clock)
    return GatewayState(
        gateway=Gateway(
            catalog=catalog,
            ledger=seen.ledger,
            providers=providers,
            log=seen.log,
            tasks=streams,
            limits=limits,
            retries=retries,
            places=places,
            drain=drain,
            traffic=RuleTraffic(
                cache=cached(RedisAnswers(redis, pepper=pepper)),
                shadows=ShadowTraffic(
                    ledger=seen.ledger,
                    providers=providers,
                    allowances=allowances,
                    pairs=PostgresShadowPairs(database, pepper=pepper),
                    tasks=streams,
                    is_ending=lambda: drain.is_begun,
                ),
                allowances=allowances,
            ),
            streams=relayed,
            checks=schemas,
        ),
        drain=drain,
        metrics=seen.metrics,
        traced_share=settings.gateway_trace_share if settings.gateway_otlp_endpoint is not None else None,
        catalog=catalog,
        authentication=Authentication(database, access_tokens=tokens, pepper=pepper, clock=clock, epochs=epochs),
        answers=IdempotentAnswers(database, pepper=pepper),
        schemas=schemas,
    )


@asynccontextmanager
async def _draining(drain: Drain) -> AsyncGenerator[asyncio.TaskGroup]:
    """A group whose tasks may go on at the end until the time to finish is over; what still runs then is cancelled."""
    try:
        async with asyncio.timeout(None) as limit, asyncio.TaskGroup() as group:
            yield group
            limit.reschedule(drain.begin())
    except TimeoutError:
        return
