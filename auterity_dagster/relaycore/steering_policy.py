"""A steering policy as it is written: the schema of `config/steering.yaml`, in which anything unknown is an error."""

from collections.abc import Container, Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, StrictStr, model_validator

from auterity_dagster.errors import Invalid
from auterity_dagster.money import NanoUsd, nano_usd
from auterity_dagster.relaycore.catalog import Capabilities, Deployment, provider_digest
from auterity_dagster.relaycore.chat import Kind
from auterity_dagster.relaycore.circuit import BreakerLimits
from auterity_dagster.relaycore.steering_condition import ALWAYS, Condition, Fact, check_facts, parse_condition

Cause = Literal["connection", "timeout", "rate_limit", "overloaded", "server_error", "malformed"]
ALL_CAUSES: tuple[Cause, ...] = ("connection", "timeout", "rate_limit", "overloaded", "server_error", "malformed")
SERVED_PATTERN = "neuroweaver/*"
"""In a pool: every specialised model that the caller's organization serves."""


def _quoted_decimal(value: object) -> NanoUsd:
    if not isinstance(value, str):
        raise ValueError(f"money is a quoted decimal such as '0.20', not {value!r}")
    try:
        return nano_usd(value)
    except Invalid as error:
        raise ValueError(error.message) from error


Dollars = Annotated[NanoUsd, BeforeValidator(_quoted_decimal)]
Name = Annotated[StrictStr, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
Share = Annotated[float, Field(ge=0, le=1)]


class _Written(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


class Deadlines(_Written):
    """Seconds an attempt may take to connect, to its first token, between tokens; and the whole request."""

    connect_s: float = Field(gt=0)
    first_token_s: float = Field(gt=0)
    idle_s: float = Field(gt=0)
    total_s: float = Field(gt=0, le=3600)


class Attempts(_Written):
    """How often a request may be tried in all and at one deployment, and how dear a stand-in may be."""

    max: int = Field(ge=1, le=8)
    per_deployment: int = Field(ge=1, le=4)
    max_cost_ratio: float = Field(ge=1)


class Breaker(_Written):
    """When a deployment is left alone, and for how long."""

    failures_in_a_row: int = Field(ge=1)
    window_s: float = Field(gt=0)
    min_calls: int = Field(ge=1)
    failure_ratio: float = Field(gt=0, le=1)
    slow_call_s: float = Field(gt=0)
    open_s: float = Field(gt=0)
    probes: int = Field(ge=1)

    def limits(self) -> BreakerLimits:
        """Return the same numbers as the breaker takes them."""
        return BreakerLimits(**self.model_dump())


class Defaults(_Written):
    """What holds where no rule says otherwise."""

    objective: Name
    max_output_tokens: int = Field(ge=1)
    when_budget_short: Literal["refuse"]
    deadlines: Deadlines
    attempts: Attempts
    breaker: Breaker


class WrittenCapabilities(_Written):
    """What the deployment can take and give; what is not written it cannot."""

    context_tokens: int = Field(ge=1)
    output_tokens: int = Field(ge=0)
    tools: StrictBool = False
    json_schema: StrictBool = False
    streaming: StrictBool = False
    image_tokens: int = Field(default=0, ge=0)
    kind: Kind = "chat"


class WrittenDeployment(_Written):
    """A model of a provider. Models that we serve are not written here: they come from the registry."""

    id: Name
    provider: Literal["openai", "anthropic", "sandbox"]
    model: StrictStr = Field(min_length=1)
    price: StrictStr = Field(min_length=1)
    region: StrictStr = ""
    failure_domain: StrictStr | None = None
    credential: StrictStr = Field(pattern=r"^secret://[a-z0-9_]+(/[a-z0-9_]+)?$")
    data_policy: tuple[Name, ...] = ()
    when_client_leaves: Literal["drain", "cancel"] = "drain"
    caps: WrittenCapabilities

    def deployment(self) -> Deployment:
        """Return the form that routing knows."""
        return Deployment(
            id=self.id,
            provider=self.provider,
            model=self.model,
            price_key=self.price,
            artefact_digest=provider_digest(self.provider, self.model),
            capabilities=Capabilities(**self.caps.model_dump()),
            failure_domain=self.failure_domain or self.provider,
            region=self.region,
            credential=self.credential.removeprefix("secret://"),
            data_policy=frozenset(self.data_policy),
            is_drained=self.when_client_leaves == "drain",
        )


class Limits(_Written):
    """What a candidate must keep to; None: no limit."""

    quality_lcb: Share | None = None
    cost_usd: Dollars | None = None


class Objective(_Written):
    """What to optimise among the candidates that keep to the limits."""

    minimize: Literal["cost"] | None = None
    maximize: Literal["quality"] | None = None
    subject_to: Limits = Limits()

    @model_validator(mode="after")
    def _one_direction(self) -> "Objective":
        if (self.minimize is None) == (self.maximize is None):
            raise ValueError("an objective has either `minimize: cost` or `maximize: quality`")
        return self


class OneOf(_Written):
    """Equal to a value, or in a list of them: exactly one of the two."""

    eq: StrictStr | None = None
    in_: tuple[StrictStr, ...] | None = Field(default=None, alias="in", min_length=1)

    @model_validator(mode="after")
    def _one_operator(self) -> "OneOf":
        if (self.eq is None) == (self.in_ is None):
            raise ValueError("a filter has exactly one operator: `eq` or `in`")
        return self

    def admits(self, value: str) -> bool:
        """True if the value may stay."""
        return value == self.eq if self.in_ is None else value in self.in_


class Contains(_Written):
    """Has this among its values."""

    contains: StrictStr


class DeploymentFilter(_Written):
    """What a deployment must be to stay a candidate."""

    data_policy: Contains | None = None
    region: OneOf | None = None
    provider: OneOf | None = None

    def admits(self, deployment: Deployment) -> bool:
        """True if the deployment passes every comparison that is written."""
        return (
            (self.data_policy is None or self.data_policy.contains in deployment.data_policy)
            and (self.region is None or self.region.admits(deployment.region))
            and (self.provider is None or self.provider.admits(deployment.provider))
        )


class Settings(_Written):
    """Numbers that a rule makes stricter; of several rules the strictest counts."""

    max_output_tokens: int = Field(ge=1)


class Effect(_Written):
    """What a matching rule does."""

    pool: Name | None = None
    deployment: Name | None = None
    reject: StrictStr | None = None
    objective: Name | None = None
    filter: DeploymentFilter | None = None
    set: Settings | None = None
    fallback_on: tuple[Cause, ...] | None = None
    on_no_candidates: Literal["reject", "relax"] = "reject"
    final: StrictBool = False

    @model_validator(mode="after")
    def _one_destination(self) -> "Effect":
        if sum(one is not None for one in (self.pool, self.deployment, self.reject)) > 1:
            raise ValueError("a rule names at most one of `pool`, `deployment`, `reject`")
        return self

    @property
    def decides(self) -> bool:
        """True if the rule says where the request goes, or that it goes nowhere."""
        return self.pool is not None or self.deployment is not None or self.reject is not None


class Rule(_Written):
    """`when` the condition holds, `then` this; the higher priority is asked first."""

    id: Name
    priority: int
    when: Annotated[Condition, BeforeValidator(parse_condition)]
    then: Effect


class Expectation(_Written):
    """What an embedded test demands of the decision."""

    rule: Name | None = None
    objective: Name | None = None
    deployments_within: tuple[StrictStr, ...] | None = None


class PolicyTest(_Written):
    """A decision that the policy must make; the file is refused if it does not."""

    name: StrictStr
    given: Annotated[dict[str, Fact], BeforeValidator(check_facts)]
    expect: Expectation


class SteeringPolicy(_Written):
    """A whole policy. Cross-references are checked here; prices and embedded tests by `steering_file`."""

    schema_version: Literal[2]
    name: Name
    defaults: Defaults
    deployments: tuple[WrittenDeployment, ...]
    pools: Mapping[Name, tuple[StrictStr, ...]]
    objectives: Mapping[Name, Objective]
    rules: tuple[Rule, ...] = Field(min_length=1)
    tests: tuple[PolicyTest, ...] = ()
    digest: StrictStr = Field(default="", exclude=True)

    @model_validator(mode="after")
    def _references_exist(self) -> "SteeringPolicy":
        ids = [one.id for one in self.deployments]
        _refuse_repeats("deployments", ids)
        _refuse_repeats("rules", [rule.id for rule in self.rules])
        _refuse_repeats("rules: priority", [str(rule.priority) for rule in self.rules])
        for pool, members in self.pools.items():
            for member in members:
                _must_exist(f"pools.{pool}", member, {*ids, SERVED_PATTERN})
        _must_exist("defaults.objective", self.defaults.objective, self.objectives)
        for rule in self.rules:
            then = rule.then
            _must_exist(f"rules.{rule.id}.then.pool", then.pool, self.pools)
            _must_exist(f"rules.{rule.id}.then.deployment", then.deployment, ids)
            _must_exist(f"rules.{rule.id}.then.objective", then.objective, self.objectives)
        return self

    @model_validator(mode="after")
    def _last_rule_takes_the_rest(self) -> "SteeringPolicy":
        last = min(self.rules, key=lambda rule: rule.priority)
        if last.when != ALWAYS or last.then.pool is None:
            raise ValueError(f"rules: the lowest priority ({last.id}) must be `when: always` and name a pool")
        return self


def _refuse_repeats(where: str, names: list[str]) -> None:
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"{where}: {repeated[0]!r} stands there twice")


def _must_exist(where: str, name: str | None, known: Container[str]) -> None:
    if name is not None and name not in known:
        raise ValueError(f"{where}: there is no {name!r}")
