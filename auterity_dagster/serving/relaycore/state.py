"""What every request of the gateway shares, built once in the lifespan."""

from dataclasses import dataclass

from auterity_dagster.relaycore.draining import Drain
from auterity_dagster.relaycore.gateway import Gateway
from auterity_dagster.serving.authentication import Authentication
from auterity_dagster.serving.relaycore.catalog import RefreshingCatalog
from auterity_dagster.serving.relaycore.idempotency import IdempotentAnswers
from auterity_dagster.serving.relaycore.metrics import Metrics
from auterity_dagster.serving.relaycore.schema_checks import SchemaChecks


@dataclass(frozen=True, slots=True)
class GatewayState:
    """The gateway, what it knows, and who may call it."""

    gateway: Gateway
    catalog: RefreshingCatalog
    authentication: Authentication
    drain: Drain
    metrics: Metrics
    traced_share: float | None
    """The share of requests whose spans are written; None: none are."""
    answers: IdempotentAnswers
    schemas: SchemaChecks
