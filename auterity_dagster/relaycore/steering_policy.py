"""A steering policy as it is written: the schema of `config/steering.yaml`, in which anything unknown is an error."""

from collections import Counter
from collections.abc import Container, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal
from zoneinfo import available_timezones

from pydantic import BeforeValidator, Field, PrivateAttr, StrictStr, WithJsonSchema, model_validator

from auterity_dagster.relaycore.circuit import BreakerLimits
from auterity_dagster.relaycore.predicted_quality import PredictorMode
from auterity_dagster.relaycore.steering_condition import (
    ALWAYS,
    METADATA,
    Condition,
    Fact,
    check_facts,
    parse_condition,
)
from auterity_dagster.relaycore.steering_deployment import WrittenDeployment
from auterity_dagster.relaycore.steering_effects import SERVED_CHALLENGER, CacheRule, Effect
from auterity_dagster.relaycore.steering_index import RuleIndex, rule_index
from auterity_dagster.relaycore.steering_words import Dollars, Name, Share, Written

SERVED_PATTERN = "neuroweaver/*"
"""In a pool: every specialised model that the caller's organization serves."""

NOTIFY = "notify"
"""In `at_budget_percent`: nothing changes, the answer says that so much of a budget is used."""

MAX_RULES = 5_000


class Deadlines(Written):
    """Seconds an attempt may take to connect, to its first token, between tokens; and the whole request."""

    connect_s: float = Field(gt=0)
    first_token_s: float = Field(gt=0)
    idle_s: float = Field(gt=0)
    total_s: float = Field(gt=0, le=3600)


class Attempts(Written):
    """How often a request may be tried in all and at one deployment, and how dear a stand-in may be."""

    max: int = Field(ge=1, le=8)
    per_deployment: int = Field(ge=1, le=4)
    max_cost_ratio: float = Field(ge=1)


class Breaker(Written):
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


Percent = Annotated[int, Field(ge=1, le=100)]


class Defaults(Written):
    """What holds where no rule says otherwise."""

    objective: Name
    max_output_tokens: int = Field(ge=1)
    when_budget_short: Literal["refuse", "clamp"] = "refuse"
    stream_holds: Literal["whole", "slices"] = "whole"
    at_budget_percent: Mapping[Percent, Name] = Field(default_factory=dict[int, str], max_length=20)
    time_zone: StrictStr = "UTC"
    deadlines: Deadlines
    attempts: Attempts
    breaker: Breaker
    cache: CacheRule = CacheRule(mode="off")
    predictor: PredictorMode = "off"

    @model_validator(mode="after")
    def _time_zone_exists(self) -> "Defaults":
        if self.time_zone not in available_timezones():
            raise ValueError(f"time_zone: {self.time_zone!r} is not a time zone such as America/Chicago")
        return self


class Limits(Written):
    """What a candidate must keep to; None: no limit. `late_probability` is the chance to take over `latency_ms`."""

    quality_lcb: Share | None = None
    late_probability: Share | None = None
    latency_ms: int | None = Field(default=None, ge=1)
    cost_usd: Dollars | None = None

    @model_validator(mode="after")
    def _lateness_is_whole(self) -> "Limits":
        if (self.late_probability is None) != (self.latency_ms is None):
            raise ValueError("`late_probability` and `latency_ms` go together")
        return self


class Objective(Written):
    """What to optimise among the candidates that keep to the limits."""

    minimize: Literal["cost"] | None = None
    maximize: Literal["quality"] | None = None
    subject_to: Limits = Limits()

    @model_validator(mode="after")
    def _one_direction(self) -> "Objective":
        if (self.minimize is None) == (self.maximize is None):
            raise ValueError("an objective has either `minimize: cost` or `maximize: quality`")
        return self


# What these two look like as JSON Schema, `steering_schema` says.
When = Annotated[Condition, BeforeValidator(parse_condition), WithJsonSchema({})]
Given = Annotated[dict[str, Fact], BeforeValidator(check_facts), WithJsonSchema({})]


class Task(Written):
    """What is known of a task beforehand: `repair_usd` is what a bad answer to it costs to put right."""

    repair_usd: Dollars


class Rule(Written):
    """`when` the condition holds, `then` this; the higher priority is asked first."""

    id: Name
    priority: int = Field(strict=True)
    when: When
    then: Effect


class Expectation(Written):
    """What an embedded test demands of the decision."""

    rule: Name | None = None
    objective: Name | None = None
    deployments_within: tuple[StrictStr, ...] | None = None


class PolicyTest(Written):
    """A decision that the policy must make; the file is refused if it does not."""

    name: StrictStr
    given: Given
    expect: Expectation


class SteeringPolicy(Written):
    """A whole policy. Cross-references are checked here; prices and embedded tests by `steering_file`."""

    schema_version: Literal[2]
    name: Name
    defaults: Defaults
    deployments: tuple[WrittenDeployment, ...] = Field(max_length=500)
    pools: Mapping[Name, tuple[StrictStr, ...]]
    objectives: Mapping[Name, Objective]
    tasks: Mapping[Name, Task] = Field(default_factory=dict[str, Task])
    rules: tuple[Rule, ...] = Field(min_length=1, max_length=MAX_RULES)
    tests: tuple[PolicyTest, ...] = Field(default=(), max_length=MAX_RULES)
    _text: str = PrivateAttr(default="")
    _digest: str = PrivateAttr(default="")
    _version: int | None = PrivateAttr(default=None)

    @property
    def text(self) -> str:
        """The YAML that it was read from."""
        return self._text

    @property
    def digest(self) -> str:
        """The first 16 hexadecimal digits of the SHA-256 over its text."""
        return self._digest

    @property
    def version(self) -> int | None:
        """Which version of an organization's own policy this is; None for the platform's, which is a file."""
        return self._version

    def model_post_init(self, context: Any, /) -> None:
        """Take text, digest and version where `steering_file` hands them over."""
        if isinstance(context, SourceText):
            self._text, self._digest, self._version = context.text, context.digest, context.version

    @cached_property
    def index(self) -> RuleIndex[Rule]:
        """The rules, compiled once."""
        return rule_index(self.rules)

    @cached_property
    def metadata_names(self) -> frozenset[str]:
        """Which of a caller's own labels some rule asks about."""
        return frozenset(one.removeprefix("metadata.") for one in self.index.fields if METADATA.fullmatch(one))

    @model_validator(mode="after")
    def _references_exist(self) -> "SteeringPolicy":
        ids = {one.id for one in self.deployments}
        _refuse_repeats("deployments", [one.id for one in self.deployments])
        _refuse_repeats("rules", [rule.id for rule in self.rules])
        _refuse_repeats("rules: priority", [str(rule.priority) for rule in self.rules])
        for pool, members in self.pools.items():
            for member in members:
                _must_exist(f"pools.{pool}", member, {*ids, SERVED_PATTERN})
        _must_exist("defaults.objective", self.defaults.objective, self.objectives)
        for percent, named in self.defaults.at_budget_percent.items():
            _must_exist(f"defaults.at_budget_percent.{percent}", named, {*self.objectives, NOTIFY})
        for rule in self.rules:
            then = rule.then
            _must_exist(f"rules.{rule.id}.then.pool", then.pool, self.pools)
            _must_exist(f"rules.{rule.id}.then.deployment", then.deployment, ids)
            _must_exist(f"rules.{rule.id}.then.objective", then.objective, self.objectives)
            copied_to = then.shadow and then.shadow.deployment
            _must_exist(f"rules.{rule.id}.then.shadow.deployment", copied_to, {*ids, SERVED_CHALLENGER})
        return self

    @model_validator(mode="after")
    def _last_rule_takes_the_rest(self) -> "SteeringPolicy":
        last = min(self.rules, key=lambda rule: rule.priority)
        if last.when != ALWAYS or last.then.pool is None:
            raise ValueError(f"rules: the lowest priority ({last.id}) must be `when: always` and name a pool")
        for rule in self.rules:
            if rule is not last and rule.when == ALWAYS and (rule.then.decides or rule.then.final):
                raise ValueError(f"rules.{rule.id}: `when: always` leaves nothing to the rules below it")
        return self


@dataclass(frozen=True, slots=True)
class SourceText:
    """What a policy is read from, its digest, and its version where it is an organization's own."""

    text: str
    digest: str
    version: int | None


def _refuse_repeats(where: str, names: list[str]) -> None:
    repeated = sorted(name for name, count in Counter(names).items() if count > 1)
    if repeated:
        raise ValueError(f"{where}: {repeated[0]!r} stands there twice")


def _must_exist(where: str, name: str | None, known: Container[str]) -> None:
    if name is not None and name not in known:
        raise ValueError(f"{where}: there is no {name!r}")
