"""A deployment as a steering policy writes it: where a model can be called, what it can do, what it costs."""

from typing import Literal

from pydantic import Field, StrictBool, StrictStr, model_validator

from auterity_dagster.relaycore.catalog import Alias, Capabilities, Deployment, provider_digest
from auterity_dagster.relaycore.chat import Kind
from auterity_dagster.relaycore.steering_words import Name, Written


class WrittenCapabilities(Written):
    """What the deployment can take and give; what is not written it cannot."""

    context_tokens: int = Field(ge=1)
    output_tokens: int = Field(ge=0)
    tools: StrictBool = False
    json_schema: StrictBool = False
    streaming: StrictBool = False
    image_tokens: int = Field(default=0, ge=0)
    kind: Kind = "chat"
    prompt_cache: Literal["none", "automatic", "explicit"] = "none"
    raises_limit: StrictBool = False


class WrittenDeployment(Written):
    """A model of a provider, or one of ours by a name of the policy's own.

    `weight_percent` is the share of subjects that may be answered here. `provider: served` names by `model` and `alias`
    what the registry published (`neuroweaver/<scope>`); digest, verdict and weight come from there.
    """

    id: Name
    provider: Literal["openai", "anthropic", "sandbox", "served"]
    model: StrictStr = Field(min_length=1)
    alias: Alias | None = None
    price: StrictStr = Field(min_length=1)
    region: StrictStr = ""
    failure_domain: StrictStr | None = None
    credential: StrictStr | None = Field(default=None, pattern=r"^secret://[a-z0-9_]+(/[a-z0-9_]+)?$")
    data_policy: tuple[Name, ...] = ()
    weight_percent: int = Field(default=100, ge=0, le=100)
    when_client_leaves: Literal["drain", "cancel"] = "drain"
    caps: WrittenCapabilities

    @model_validator(mode="after")
    def _served_has_an_alias(self) -> "WrittenDeployment":
        is_served = self.provider == "served"
        if is_served != (self.alias is not None):
            raise ValueError("`alias` (champion or challenger) goes with `provider: served`, and it needs one")
        if self.caps.raises_limit and self.provider in ("openai", "anthropic"):
            raise ValueError("`caps.raises_limit` is for our own servers: no limit of this provider can be raised")
        if not is_served and self.credential is None:
            raise ValueError("`credential` is missing: the name of a secret, such as secret://openai/default")
        return self

    def deployment(self) -> Deployment:
        """Return the form that routing knows."""
        return Deployment(
            id=self.id,
            provider=self.provider,
            model=self.model,
            price_key=self.price,
            artefact_digest=provider_digest(self.provider, self.model),
            capabilities=Capabilities(**self.caps.model_dump()),
            failure_domain=self.failure_domain or ("own-model-server" if self.provider == "served" else self.provider),
            region=self.region,
            credential=(self.credential or "secret://model_server_token").removeprefix("secret://"),
            data_policy=frozenset(self.data_policy),
            weight_percent=self.weight_percent,
            is_drained=self.when_client_leaves == "drain",
        )
