"""The gateway's Prometheus metrics: what each means, and labels that nobody outside the configuration can add to.

A label's value is a name from the configuration or from our own code, else `other`: never a key, a user, an
organization or anything a caller wrote. Children are looked up once and kept: the look-up costs more than the update.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from prometheus_client import CollectorRegistry, Counter, Histogram, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.core import Metric as CoreMetric
from prometheus_client.registry import Collector

from auterity_dagster.relaycore.allowance import EXPLORATION, SHADOW

PREFIX = "auterity_relaycore"
OTHER = "other"
PURPOSES = frozenset({"interactive", "workflow", "judging", "evaluation", SHADOW, EXPLORATION})
WIRES = frozenset({"openai", "anthropic"})
SCOPES = frozenset({"organization", "dealership", "key", "user", "tag", "purpose", "deployment"})
CAUSES = frozenset(
    {"ok", "connection", "timeout", "rate_limit", "overloaded", "server_error", "malformed", "rejected", "credential"}
    | {"cancelled"}
)
OUTCOMES = CAUSES | frozenset(
    {"invalid_request", "invalid_json", "unsupported_parameter", "context_length_exceeded", "invalid_api_key"}
    | {"not_authenticated", "key_revoked", "key_frozen", "not_permitted", "budget_exceeded", "max_cost_exceeded"}
    | {"model_not_found", "region_blocked", "idempotency_running", "idempotency_mismatch", "outcome_unknown"}
    | {"body_too_large", "price_unknown", "rate_limited", "upstream_error", "no_candidate", "ledger_unavailable"}
    | {"catalog_unavailable", "draining", "client_gone", "internal_error", "stream_interrupted", "budget_stop"}
    | {"unavailable", "deadline_exceeded", "policy_refused"}
)
CACHE_RESULTS = frozenset({"hit", "miss", "bypass"})
LATENCY_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
SHORT_S = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.25, 1)

Known = Callable[[], Collection[str]]
Metric = TypeVar("Metric", Counter, Histogram)


class Bounded(Generic[Metric]):
    """A metric's children by the values of its labels, each of which is one of the known values or `other`."""

    def __init__(self, metric: Metric, *known: Collection[str] | Known) -> None:
        self._metric, self._known = metric, known
        self._children: dict[tuple[str, ...], Metric] = {}

    def of(self, *values: str) -> Metric:
        """Return the child. Only values that are known are remembered."""
        child = self._children.get(values)
        if child is None:
            bounded = tuple(map(_bounded, values, self._known))
            child = self._metric.labels(*bounded)
            if bounded == values:
                self._children[values] = child
        return child


class Metrics:
    """One process's metrics; `deployments` returns the ids that the configuration names at the moment."""

    def __init__(self, *, deployments: Known) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self.requests = Bounded(
            self._counter("requests", "Requests that ended, by how.", "wire", "deployment", "outcome"),
            WIRES,
            deployments,
            OUTCOMES,
        )
        self.request_duration = Bounded(
            self._histogram("request_duration_seconds", "From begin to end of a request.", LATENCY_S, "kind"),
            ("whole", "stream"),
        )
        self.overhead = self._histogram(
            "overhead_seconds", "A whole answer's time without its attempts: hold, choice, parsing, queueing.", SHORT_S
        )
        self.first_token = Bounded(
            self._histogram("first_token_seconds", "From the attempt's begin.", LATENCY_S, "deployment"),
            deployments,
        )
        self.tokens = Bounded(
            self._counter("tokens", "Tokens as the providers reported them.", "deployment", "class"),
            deployments,
            ("input", "output", "cache_read", "cache_write"),
        )
        self.cost_nusd = Bounded(
            self._counter("cost_nusd", "Settled cost in nano-dollars.", "deployment", "purpose"), deployments, PURPOSES
        )
        self.attempts = Bounded(
            self._counter("attempts", "Attempts that ended, by cause.", "deployment", "cause"), deployments, CAUSES
        )
        self.cache_lookups = Bounded(
            self._counter("cache_lookups", "Calls whose rule has a cache, by what it said.", "result"), CACHE_RESULTS
        )
        self.hold_wait = self._histogram("hold_wait_seconds", "From asking for a hold to its commit.", SHORT_S)
        self.budget_refused = Bounded(
            self._counter("budget_refused", "Holds that a hard budget refused, by its scope.", "scope"), SCOPES
        )
        self.overage_nusd = self._counter("overage_nusd", "Nano-dollars billed above the hold that was to bound them.")
        self.unknown_nusd = self._counter("unknown_nusd", "Nano-dollars booked in full because nobody knows the cost.")

    def gauge(self, name: str, documentation: str, read: Callable[[], float]) -> None:
        """Add a gauge that is read when somebody scrapes."""
        self.registry.register(_Read(GaugeMetricFamily, name, documentation, read))

    def counter(self, name: str, documentation: str, read: Callable[[], float]) -> None:
        """Add a counter that something else keeps, and that is read when somebody scrapes."""
        self.registry.register(_Read(CounterMetricFamily, name, documentation, read))

    def _counter(self, name: str, documentation: str, *labels: str) -> Counter:
        return Counter(f"{PREFIX}_{name}", documentation, labels, registry=self.registry)

    def _histogram(self, name: str, documentation: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"{PREFIX}_{name}", documentation, labels, buckets=buckets, registry=self.registry)


@dataclass(frozen=True, slots=True)
class _Read(Collector):
    """A metric of one value that is asked for at each scrape."""

    family: type[GaugeMetricFamily] | type[CounterMetricFamily]
    name: str
    documentation: str
    read: Callable[[], float]

    def collect(self) -> Iterable[CoreMetric]:
        yield self.family(f"{PREFIX}_{self.name}", self.documentation, value=self.read())


def _bounded(value: str, known: Collection[str] | Known) -> str:
    return value if value in (known() if callable(known) else known) else OTHER
