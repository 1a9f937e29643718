"""What the gateway's rules need from the world, as protocols; adapters in `storage/` and `serving/` fulfil them."""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from auterity_dagster.errors import AuterityError
from auterity_dagster.money import NanoUsd
from auterity_dagster.relaycore.allowance import Allowance
from auterity_dagster.relaycore.cache_hit import Hit
from auterity_dagster.relaycore.catalog import CatalogSnapshot, Deployment
from auterity_dagster.relaycore.chat import (
    CacheResult,
    Caller,
    ChatRequest,
    IdempotencyClaim,
    ProviderAnswer,
    ProviderCall,
    StreamFrame,
    WireName,
)
from auterity_dagster.relaycore.predicted_quality import ActivePredictor
from auterity_dagster.relaycore.pricing import Usage
from auterity_dagster.relaycore.rate_limit import Admission
from auterity_dagster.relaycore.route import Route
from auterity_dagster.relaycore.steering_policy import SteeringPolicy


@dataclass(frozen=True, slots=True)
class HoldRequest:
    """Money to set aside for one attempt at one deployment.

    `amount_nusd` is `pricing.bound` of the attempt, `prompt_nusd` the part of it that buys the prompt (`pricing.bound`
    with no output) and `max_tokens` the output it pays for: a refusal says with them how many tokens would fit.
    With an `allowance` the hold is refused unless that allowance's budget has room for it.
    The hold expires `expires_in_s` seconds after the database's now: the call's deadline and a minute more.
    """

    organization_id: UUID
    dealership_id: UUID | None
    key_id: UUID
    user_id: UUID | None
    purpose: str
    tags: tuple[str, ...]
    request_id: UUID
    attempt: int
    deployment_id: str
    price_key: str
    price_digest: str
    amount_nusd: NanoUsd
    prompt_nusd: NanoUsd
    max_tokens: int
    expires_in_s: int
    claim: IdempotencyClaim | None = None
    allowance: str | None = None


@dataclass(frozen=True, slots=True)
class Hold:
    """A committed hold. `budget_left_nusd` is the room of the tightest hard budget after it; None without one."""

    id: UUID
    request: HoldRequest
    budget_left_nusd: NanoUsd | None


@dataclass(frozen=True, slots=True)
class UsageRecord:
    """What one attempt did, for the usage row written with its settlement.

    `usage` is None when the provider reported none: an explicit zero is something else. `outcome` is `ok` or the cause
    of a `ProviderFailed`; `policy_digest` and `rule` say which steering decided.
    """

    outcome: str
    usage: Usage | None
    latency_ms: int
    first_token_ms: int | None
    is_streamed: bool
    provider_request_id: str | None
    task: str | None
    policy_digest: str
    rule: str | None


@dataclass(frozen=True, slots=True)
class Settlement:
    """A finished attempt with a valid usage report, and what it cost."""

    hold: Hold
    cost_nusd: NanoUsd
    usage: UsageRecord


class Ledger(Protocol):
    """Budgets with holds: `held -> settled | voided | unknown`. Nothing may call a provider without a hold.

    `hold` returns once the hold is committed. The three ways to close one return at once: the ledger books them off
    the caller's path, keeps them in memory while the database is away, and books each hold once, however often told.
    """

    async def hold(self, request: HoldRequest) -> Hold:
        """Set the amount aside in every budget that applies, or raise.

        With a claim the key becomes this request's in the same commit. Raises `BudgetExceeded`;
        `Conflict(code="idempotency_running")` where it is another request's; `NotAuthenticated(code="key_revoked")`;
        `NotPermitted(code="key_frozen")`; `Unavailable(code="ledger_unavailable")` with `details["retry_after_s"]`,
        after which no money is set aside.
        """
        ...

    async def extend(self, hold: Hold, *, more_nusd: NanoUsd) -> Hold | None:
        """Raise an open hold by so much in each of its budgets' windows, and return it once that is committed.

        None where a hard budget has no room for it, where the hold is closed, or where the ledger does not answer.
        """
        ...

    async def settle(self, settlement: Settlement) -> None:
        """Book what the attempt cost, with its usage row, and give the rest of the hold back."""
        ...

    async def void(self, hold: Hold, usage: UsageRecord) -> None:
        """Give the whole hold back: the provider provably did not charge for the attempt."""
        ...

    async def leave_unknown(self, hold: Hold, usage: UsageRecord) -> None:
        """Book the full amount as unknown: nobody can say what the provider charged."""
        ...


class ProviderClient(Protocol):
    """One provider under one credential. Both calls raise `ProviderFailed`, and nothing else, when it fails."""

    async def complete(self, call: ProviderCall) -> ProviderAnswer:
        """Return the whole answer."""
        ...

    def stream(self, call: ProviderCall) -> AsyncGenerator[StreamFrame]:
        """Yield the answer's frames; it ends only after the provider's own end mark, else `ProviderFailed` is raised.

        Closing the generator closes the connection.
        """
        ...

    async def count_tokens(self, call: ProviderCall) -> int | None:
        """Return how many tokens the prompt counts there, or None where the provider cannot say. It is never billed."""
        ...

    async def raise_limit(self, call: ProviderCall, *, max_tokens: int, is_last: bool) -> None:
        """Tell a stream that it may produce so many tokens in all; `is_last`: it will be told of no more.

        Only for deployments with the capability `raises_limit`. One that has reached its limit may have ended there.
        """
        ...


class AnswerChecks(Protocol):
    """What a whole answer has to be beyond being one."""

    def is_broken(self, body: Mapping[str, object], wire: WireName, answer: ProviderAnswer) -> bool:
        """True if an answer, on its caller's wire, is not the JSON that the request's body asks for."""
        ...


class Providers(Protocol):
    """Every provider that this process may call."""

    def client_for(self, deployment: Deployment) -> ProviderClient:
        """Return the client of a deployment that a snapshot does not call unavailable."""
        ...


@dataclass(frozen=True, slots=True)
class Steering:
    """What steers an organization just now: its own active policy or the platform's, and what routing may know."""

    policy: SteeringPolicy
    snapshot: CatalogSnapshot
    predictors: tuple[ActivePredictor, ...] = ()


class Catalog(Protocol):
    """What routing knows just now; never older than about two seconds while the database answers."""

    async def steering(self, organization_id: UUID) -> Steering:
        """Return what steers an organization: the same object until something changes.

        Raises `Unavailable` where nothing was ever read.
        """
        ...

    def refuse_credential(self, deployment: Deployment) -> None:
        """Leave the deployment's credential unused for a while: its provider turned it down."""
        ...

    def refuse_deployment(self, deployment: Deployment) -> None:
        """Leave the deployment unused for a while: its provider does not know its model."""
        ...


class RateLimits(Protocol):
    """Requests and tokens a minute, counted over all gateway processes together."""

    async def admit(self, caller: Caller, *, tokens: int) -> Admission | None:
        """Count a request that may need so many tokens; None where nothing limits it. Raises `RateLimited`."""
        ...

    def correct(self, admission: Admission, *, used_tokens: int) -> None:
        """Put what the request used in place of what it was taken to need; it is booked off the caller's path."""
        ...


@dataclass(frozen=True, slots=True)
class AnswerPlace:
    """Where an answer is kept: a digest, under the organization's own key, of everything that it depends on."""

    organization_id: UUID
    digest: bytes


class AnswerStore(Protocol):
    """Answers that are kept for a while, sealed. It never raises and never takes long: trouble is a miss."""

    def place(self, organization_id: UUID, identity: bytes) -> AnswerPlace:
        """Return where the answer to calls of this identity is kept."""
        ...

    async def find(self, place: AnswerPlace) -> bytes | None:
        """Return what is kept there, or None."""
        ...

    async def claim(self, place: AnswerPlace, *, within_s: int) -> bool:
        """Return whether the caller is the one to ask a provider: False while another process does, at most so long."""
        ...

    async def found_later(self, place: AnswerPlace) -> bytes | None:
        """Wait until the process that claimed the place keeps an answer there, or None once it gave up."""
        ...

    async def keep(self, place: AnswerPlace, value: bytes | None, *, ttl_s: int) -> None:
        """Keep a value, if there is one, and give the claim back."""
        ...


class Allowances(Protocol):
    """What rules may spend a day on calls that nobody asked for, as hard budgets of the ledger."""

    async def ensure(self, organization_id: UUID, allowance: Allowance) -> bool:
        """Put the allowance into force as the policy has it; False where that cannot be done now."""
        ...


@dataclass(frozen=True, slots=True)
class Answered:
    """How one of two deployments answered. `said` is what `said.said_in` makes of it; only a digest of it is kept."""

    deployment_id: str
    artefact_digest: str
    outcome: str
    latency_ms: int
    cost_nusd: NanoUsd | None
    said: bytes | None = None


@dataclass(frozen=True, slots=True)
class ShadowPair:
    """A request that was answered, and its copy that went elsewhere.

    `asked` is what `said.asked_in` makes of it, where both answers are to be compared: only then texts are kept.
    """

    organization_id: UUID
    request_id: UUID
    shadow_request_id: UUID
    rule: str
    task: str | None
    served: Answered
    shadow: Answered
    asked: bytes | None = None


class ShadowPairs(Protocol):
    """Where pairs are kept, for comparing the two deployments."""

    async def add(self, pair: ShadowPair) -> None:
        """Keep a pair. It never raises: one that cannot be kept is lost."""
        ...


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """One attempt of a finished request: `cause` is `ok` or why it failed, `began_ms` is since the request began."""

    deployment_id: str
    cause: str
    latency_ms: int
    began_ms: int = 0


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """A finished request: `outcome` is `ok` or the code of the error that the caller got.

    `steering` is what the choice was made from, its snapshot with the live facts of that moment; None where the
    catalogue could not be read. `refusal` is the error of a choice that left no route. `cache` is what the cache said,
    None where the rule has none; `hit` is the kept answer that was given again.
    """

    request: ChatRequest
    route: Route | None
    steering: Steering | None
    refusal: AuterityError | None
    deployment_id: str | None
    attempts: tuple[AttemptRecord, ...]
    outcome: str
    usage: Usage | None
    cost_nusd: NanoUsd
    latency_ms: int
    received_at: datetime
    cache: CacheResult | None = None
    hit: Hit | None = None


class RequestLog(Protocol):
    """Where finished requests are written down, off the caller's path."""

    def add(self, record: RequestRecord) -> None:
        """Take a record; it is written within about a second."""
        ...
