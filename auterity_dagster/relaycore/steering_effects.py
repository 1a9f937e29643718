"""What a matching rule does: the `then` of a steering rule, as typed data that the gateway acts on."""

from typing import Literal

from pydantic import Field, StrictBool, StrictStr, field_validator, model_validator

from auterity_dagster.relaycore.catalog import Deployment
from auterity_dagster.relaycore.steering_words import Dollars, Name, Share, Written

Cause = Literal["connection", "timeout", "rate_limit", "overloaded", "server_error", "malformed"]
ALL_CAUSES: tuple[Cause, ...] = ("connection", "timeout", "rate_limit", "overloaded", "server_error", "malformed")
MAX_EXPLORED_SHARE = 0.03
EXPLORED_NUSD_PER_DAY = 1_000_000_000
"""What a rule may spend a day on trying other deployments where it does not say: one dollar."""


class OneOf(Written):
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


class Contains(Written):
    """Has this among its values."""

    contains: StrictStr


class DeploymentFilter(Written):
    """What a deployment must be to stay a candidate."""

    data_policy: Contains | None = None
    region: OneOf | None = None
    provider: OneOf | None = None
    failure_domain: OneOf | None = None

    @model_validator(mode="after")
    def _says_something(self) -> "DeploymentFilter":
        if not self.model_fields_set:
            raise ValueError("a filter names at least one of `data_policy`, `region`, `provider`, `failure_domain`")
        return self

    def admits(self, deployment: Deployment) -> bool:
        """True if the deployment passes every comparison that is written."""
        return (
            (self.data_policy is None or self.data_policy.contains in deployment.data_policy)
            and (self.region is None or self.region.admits(deployment.region))
            and (self.provider is None or self.provider.admits(deployment.provider))
            and (self.failure_domain is None or self.failure_domain.admits(deployment.failure_domain))
        )


class Settings(Written):
    """Numbers that a rule makes stricter; of several rules the strictest counts."""

    max_output_tokens: int | None = Field(default=None, ge=1)
    max_cost_usd: Dollars | None = None
    quality_lcb: Share | None = None
    total_s: float | None = Field(default=None, gt=0, le=3600)

    def stricter(self, other: "Settings") -> "Settings":
        """Return, number by number, the stricter of two."""
        return Settings.model_construct(
            max_output_tokens=_least(self.max_output_tokens, other.max_output_tokens),
            max_cost_usd=_least(self.max_cost_usd, other.max_cost_usd),
            quality_lcb=max((one for one in (self.quality_lcb, other.quality_lcb) if one is not None), default=None),
            total_s=_least(self.total_s, other.total_s),
        )


class CacheRule(Written):
    """Whether an equal request may get an earlier answer, for how long, and who shares it.

    Only requests without tools; a temperature above 0.3 needs `any_temperature`.
    """

    mode: Literal["off", "exact"]
    ttl_s: int = Field(default=3600, ge=1, le=86_400)
    scope: Literal["organization", "dealership", "key"] = "key"
    any_temperature: StrictBool = False


class Exploration(Written):
    """How large a share of requests may try another deployment than the choice, and for how much a day."""

    share: float = Field(default=MAX_EXPLORED_SHARE, gt=0, le=MAX_EXPLORED_SHARE)
    max_usd_per_day: Dollars = EXPLORED_NUSD_PER_DAY


SERVED_CHALLENGER = "neuroweaver/*@challenger"
"""In `shadow`: the challenger of whichever served model answered."""


class Shadow(Written):
    """A share of requests is answered a second time, by this deployment, after the caller has its answer.

    With `compare` both answers are kept, sealed, until a judge has said which is better; never those about a person.
    """

    deployment: Name | Literal["neuroweaver/*@challenger"]
    share: float = Field(gt=0, le=1)
    max_usd_per_day: Dollars
    compare: StrictBool = False


class Effect(Written):
    """What a matching rule does."""

    pool: Name | None = None
    deployment: Name | None = None
    reject: StrictStr | None = Field(default=None, min_length=1, max_length=500)
    objective: Name | None = None
    filter: DeploymentFilter | None = None
    set: Settings | None = None
    cache: CacheRule | None = None
    explore: bool | Exploration = False
    shadow: Shadow | None = None
    fallback_on: tuple[Cause, ...] | None = None
    on_no_candidates: Literal["reject", "relax"] | None = None
    final: StrictBool = False

    @model_validator(mode="before")
    @classmethod
    def _nothing_is_masked(cls, raw: object) -> object:
        if isinstance(raw, dict) and "redact" in raw:
            raise ValueError("`redact` is not supported: this gateway masks nothing; filter by `data_policy` instead")
        return raw  # pyright: ignore[reportUnknownVariableType]

    @field_validator("explore", mode="before")
    @classmethod
    def _true_or_a_share(cls, raw: object) -> object:
        if not isinstance(raw, bool | dict | Exploration):
            raise ValueError("`explore` is true, false or a mapping with `share` and `max_usd_per_day`")
        return raw  # pyright: ignore[reportUnknownVariableType]

    @model_validator(mode="after")
    def _one_destination(self) -> "Effect":
        if not self.model_fields_set:
            raise ValueError("a rule does something: `then` is empty")
        if sum(one is not None for one in (self.pool, self.deployment, self.reject)) > 1:
            raise ValueError("a rule names at most one of `pool`, `deployment`, `reject`")
        if not self.decides and (self.fallback_on is not None or self.on_no_candidates is not None):
            raise ValueError("`fallback_on` and `on_no_candidates` go with a `pool` or a `deployment`")
        return self

    @property
    def decides(self) -> bool:
        """True if the rule says where the request goes, or that it goes nowhere."""
        return self.pool is not None or self.deployment is not None or self.reject is not None

    @property
    def exploration(self) -> Exploration | None:
        """What may be tried, or None."""
        if isinstance(self.explore, Exploration):
            return self.explore
        return Exploration() if self.explore else None


def _least(one: int | float | None, other: int | float | None) -> int | float | None:
    return min((number for number in (one, other) if number is not None), default=None)
