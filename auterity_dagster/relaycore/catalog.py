"""Where models can be called, and what is known about them at one moment: the input of every routing decision."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal
from uuid import UUID

from auterity_dagster.money import NanoUsd
from auterity_dagster.relaycore.chat import Kind, WireName
from auterity_dagster.relaycore.live import NOTHING_SEEN, Live
from auterity_dagster.relaycore.predicted_quality import QualityPrediction
from auterity_dagster.relaycore.pricing import Price
from auterity_dagster.relaycore.quality import Quality

Provider = Literal["openai", "anthropic", "served", "sandbox"]
Alias = Literal["champion", "challenger"]
PromptCache = Literal["none", "automatic", "explicit"]

UNKNOWN_QUALITY = Quality()


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a deployment can take and give; tokens are the model's own."""

    context_tokens: int
    output_tokens: int
    tools: bool = False
    json_schema: bool = False
    streaming: bool = True
    image_tokens: int = 0
    """The most tokens that one image may count there; 0: it takes no images."""
    kind: Kind = "chat"
    prompt_cache: PromptCache = "none"
    raises_limit: bool = False
    """Whether it can be told of more output tokens while it streams, and never produces more than it was told of."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """One place where one model can be called.

    `model` is its name there, `failure_domain` what fails together with it, `credential` the name of the secret that
    opens it (None: the deployment needs none of the operator's). `tasks` is empty where any task may come.
    """

    id: str
    provider: Provider
    model: str
    price_key: str
    artefact_digest: str
    capabilities: Capabilities
    failure_domain: str
    region: str = ""
    credential: str | None = None
    data_policy: frozenset[str] = frozenset()
    tasks: frozenset[str] = frozenset()
    weight_percent: int = 100
    is_drained: bool = True
    """Whether a stream is read to its end after its caller left; else closing the connection stops the bill."""

    @property
    def wire(self) -> WireName:
        """The language in which it is called."""
        return "anthropic" if self.provider == "anthropic" else "openai"


@dataclass(frozen=True, slots=True)
class ServedDeployment:
    """A specialised model as NeuroWeaver publishes it, `deployment_id` being `neuroweaver/<scope>`."""

    organization_id: UUID
    deployment_id: str
    artefact_digest: str
    model: str
    price_key: str
    alias: Alias
    weight_percent: int
    gate_verdict_digest: str
    context_tokens: int
    output_tokens: int
    tasks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ServedCandidate:
    """A published deployment as routing reads it back, with what the gate says now about its digest."""

    served: ServedDeployment
    has_passing_verdict: bool


@dataclass(frozen=True, slots=True)
class DeploymentOverride:
    """What an organization's people set for one deployment; it narrows what policy and registry say, never widens it.

    `weight_percent` None leaves the share as it is. `version` counts the changes, 0 being none.
    """

    deployment_id: str
    is_off: bool = False
    weight_percent: int | None = None
    note: str = ""
    version: int = 0


@dataclass(frozen=True, slots=True)
class BudgetRoom:
    """One open window of a budget as last seen: whom it binds, what it allows, what is settled or held of it."""

    scope: str
    value: str
    is_hard: bool
    cap_nusd: NanoUsd
    used_nusd: NanoUsd


@dataclass(frozen=True, slots=True)
class CatalogSnapshot:
    """All that `steering.choose` may know, frozen: the same policy, request and snapshot give the same route.

    `unavailable` says of a deployment why it cannot be called at all just now (no credential, no gate verdict,
    model server away); `breaker_open` names those which only the breaker bars, for it never bars the last one.
    `prices` holds the price in force by price key: a deployment without one must not be called.
    `predictions` are what learned predictors say of this very prompt.
    `digest` stands for the deployments, quality, prices and `unavailable`, which many requests share.
    """

    deployments: Mapping[str, Deployment]
    quality: Mapping[tuple[str, str], Quality]
    prices: Mapping[str, Price]
    unavailable: Mapping[str, str] = field(default_factory=dict[str, str])
    breaker_open: frozenset[str] = frozenset()
    budgets: tuple[BudgetRoom, ...] = ()
    live: Live = NOTHING_SEEN
    predictions: tuple[QualityPrediction, ...] = ()
    digest: str = ""

    def quality_of(self, deployment: Deployment, task: str | None) -> Quality:
        """Return what is known of a deployment at a task: nothing, where the task is not named."""
        return self.quality.get((task or "", deployment.artefact_digest), UNKNOWN_QUALITY)


def provider_digest(provider: Provider, model: str) -> str:
    """Return the digest that stands for a model whose bytes we never see."""
    return f"provider:{provider}/{model}"


def registered_id(deployment_id: str, alias: Alias) -> str:
    """Return the id under which routing knows a published model."""
    return deployment_id if alias == "champion" else f"{deployment_id}@{alias}"


def served_deployment(served: ServedDeployment) -> Deployment:
    """Return the routable form; a challenger has an id of its own, for it is another model."""
    return Deployment(
        id=registered_id(served.deployment_id, served.alias),
        provider="served",
        model=served.model,
        price_key=served.price_key,
        artefact_digest=served.artefact_digest,
        capabilities=Capabilities(served.context_tokens, served.output_tokens, raises_limit=True),
        failure_domain="own-model-server",
        credential="model_server_token",
        data_policy=frozenset({"pii_ok"}),
        tasks=frozenset(served.tasks),
        weight_percent=served.weight_percent,
    )
