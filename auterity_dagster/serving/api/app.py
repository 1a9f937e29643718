"""The control plane's API: composes the routers, builds the state they share, and refuses undeclared routes."""

import random
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypedDict

from fastapi import FastAPI
from redis.asyncio import Redis

from auterity_dagster.automatrix.compliance.rows import load_compliance
from auterity_dagster.background import running_beside
from auterity_dagster.clock import Clock, SystemClock
from auterity_dagster.identity.access_token import access_tokens
from auterity_dagster.identity.secret_file import read_pepper, read_secret
from auterity_dagster.money import nano_usd
from auterity_dagster.public_http import PublicHttp
from auterity_dagster.serving.api import pages
from auterity_dagster.serving.api.examples import EXAMPLES
from auterity_dagster.serving.api.password_work import PasswordWork
from auterity_dagster.serving.api.routers import (
    analytics,
    api_keys,
    approvals,
    audiences,
    audit,
    auth,
    budget_forecasts,
    budget_proposals,
    budgets,
    connections,
    contacts,
    deployments,
    events,
    execution_control,
    executions,
    hooks,
    inbound,
    ingest,
    inventory,
    ledger,
    live,
    organizations,
    prices,
    promotions,
    rate_limits,
    recalls,
    recommendations,
    reconciliations,
    requests,
    serving_scopes,
    sms,
    statements,
    steering_policies,
    steering_replays,
    training_data,
    training_runs,
    unsubscribe,
    users,
    webhooks,
    workflow_analytics,
    workflow_drafts,
    workflow_exchange,
    workflows,
)
from auterity_dagster.serving.api.security_headers import SecurityHeaders
from auterity_dagster.serving.api.state import ApiState
from auterity_dagster.serving.api.workflow_catalog import load_catalog
from auterity_dagster.serving.authentication import Authentication
from auterity_dagster.serving.declared_router import DeclaredRouter, verify_declared
from auterity_dagster.serving.http_errors import install_error_handlers
from auterity_dagster.serving.live_events import LiveEvents, LiveTimes
from auterity_dagster.serving.openapi_document import install_openapi
from auterity_dagster.serving.webhook_delivery import WebhookDeliveries
from auterity_dagster.settings import ApiSettings
from auterity_dagster.storage.database import Database
from auterity_dagster.storage.redis_key_epochs import KeyEpochs
from auterity_dagster.storage.repositories.application_role import require_bound_role

PREFIX = "/api/v1"

# One line a router; each is included under /api/v1.
ROUTERS: tuple[DeclaredRouter, ...] = (
    auth.router,
    organizations.router,
    users.router,
    api_keys.router,
    audit.router,
    budgets.router,
    budget_forecasts.router,
    budget_proposals.router,
    ledger.router,
    statements.router,
    rate_limits.router,
    reconciliations.router,
    deployments.router,
    prices.router,
    steering_policies.router,
    steering_replays.router,
    requests.router,
    analytics.router,
    workflow_analytics.router,
    recommendations.router,
    workflow_exchange.router,
    serving_scopes.router,
    promotions.router,
    training_runs.router,
    training_data.router,
    workflows.router,
    workflow_drafts.router,
    executions.router,
    audiences.router,
    execution_control.router,
    approvals.router,
    hooks.router,
    ingest.router,
    inventory.router,
    events.router,
    inbound.router,
    contacts.router,
    sms.router,
    unsubscribe.router,
    connections.router,
    webhooks.router,
    recalls.router,
    live.router,
)


class LifespanState(TypedDict):
    """What a request finds in `request.state`."""

    api: ApiState
    authentication: Authentication
    live: LiveEvents


def create_app() -> FastAPI:
    """Return the app with settings from the environment, for `uvicorn --factory`."""
    return build_app(ApiSettings(), clock=SystemClock())  # pyright: ignore[reportCallIssue]


Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[LifespanState]]


def lifespan_of(settings: ApiSettings, *, clock: Clock) -> Lifespan:
    """Return what opens the state that requests share, works beside them, and closes it."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncGenerator[LifespanState]:
        api = _state(settings, clock)
        try:
            await require_bound_role(api.database)
            live_events = LiveEvents(api.database, api.redis, pepper=api.pepper, clock=clock, times=LiveTimes())
            deliveries = _webhook_deliveries(api)
            async with (
                running_beside(api.key_epochs.watch_for_ever()),
                live_events.running(),
                deliveries.running(every_s=settings.webhooks_every_s),
            ):
                yield {"api": api, "authentication": api.authentication, "live": live_events}
        finally:
            api.passwords.close()
            await api.redis.aclose()
            await api.database.close()

    return lifespan


def build_app(settings: ApiSettings, *, clock: Clock) -> FastAPI:
    """Return the app. Raises `ConfigurationInvalid` for a route that does not declare itself."""
    # FastAPI's own documentation routes are switched off: they are undeclared and load scripts from elsewhere.
    lifespan = lifespan_of(settings, clock=clock)
    app = FastAPI(title="Auterity API", version="1", lifespan=lifespan, openapi_url=None, docs_url=None, redoc_url=None)
    install_error_handlers(app)
    app.include_router(pages.router)
    for router in ROUTERS:
        app.include_router(router, prefix=PREFIX)
    verify_declared(app)
    install_openapi(app, examples=EXAMPLES)
    app.add_middleware(SecurityHeaders)
    return app


def _webhook_deliveries(api: ApiState) -> WebhookDeliveries:
    return WebhookDeliveries(
        api.database,
        PublicHttp(private_origins=api.settings.private_origins),
        pepper=api.pepper,
        clock=api.clock,
        jitter=random.SystemRandom().random,
    )


def _state(settings: ApiSettings, clock: Clock) -> ApiState:
    database = Database(str(settings.database_url))
    pepper = read_pepper(settings.secrets_dir)
    tokens = access_tokens(read_secret(settings.secrets_dir, "signing_key.pem"), clock=clock)
    redis = Redis.from_url(str(settings.redis_url), socket_timeout=2, socket_connect_timeout=2)
    epochs = KeyEpochs(redis)
    return ApiState(
        settings=settings,
        budget_alone_nusd=nano_usd(settings.budget_alone_usd),
        database=database,
        redis=redis,
        clock=clock,
        pepper=pepper,
        access_tokens=tokens,
        authentication=Authentication(database, access_tokens=tokens, pepper=pepper, clock=clock, epochs=epochs),
        key_epochs=epochs,
        passwords=PasswordWork(),
        workflows=load_catalog(settings.config_dir),
        compliance=load_compliance(settings.config_dir / "compliance.yaml"),
    )
