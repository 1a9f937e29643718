"""A chat request as the rules see it, and what a provider gives back; what we only pass on stays opaque."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal
from uuid import UUID

from auterity_dagster.money import NanoUsd
from auterity_dagster.relaycore.pricing import Usage
from auterity_dagster.relaycore.trace_context import RequestTrace

MESSAGE_OVERHEAD_TOKENS = 8
REQUEST_OVERHEAD_TOKENS = 32
TOOLS_OVERHEAD_TOKENS = 1024
"""What providers put before a prompt with tools; the largest published system prompt for tools is below this."""


IMAGE_TOKENS_ESTIMATE = 1600
"""What a picture counts as a rule; the hold takes the deployment's own upper bound instead."""

WireName = Literal["openai", "anthropic"]
"""The two languages that providers speak. A caller's body is in one of them by the time routing sees it."""

Kind = Literal["chat", "embedding"]

CacheWish = Literal["off", "refresh"]
"""What a caller may say of the cache: leave it alone, or ask anew and keep the answer."""

CacheResult = Literal["hit", "miss", "bypass"]
"""What a caller is told of it. `bypass`: the rule has a cache, but this call may not use it, or does not want to."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: the key's organization, the key's user, and what it declared about this call."""

    organization_id: UUID
    key_id: UUID
    dealership_id: UUID | None
    purpose: str
    user_id: UUID | None = None
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class IdempotencyClaim:
    """A caller's `Idempotency-Key`, as a digest, with that of everything that must be the same when it comes again."""

    id: UUID
    key_digest: bytes
    request_digest: bytes


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """What routing may look at. `prompt_tokens_bound` is never below what any provider counts for the prompt's text.

    An image counts beside it, at most `Capabilities.image_tokens` of the deployment. `untranslatable` names the fields
    that only a deployment on the request's own wire can honour; `droppable` those that the other wire lacks too, but
    that do not change what an answer means: a header names them. `max_tokens` is None where the caller named none.
    `quality_min`, `max_cost_nusd` and `timeout_s` tighten the policy. `subject` is hashed before it gets here: a
    canary's share sticks to it. `metadata` are the caller's own labels; `data_class: restricted` keeps the call out of
    everything that keeps or copies. `cache` is what the caller wants of the cache. `pii` are the kinds of personal data
    that were found in the prompt (None: nobody looked). `prefix_digest` and `prefix_tokens` tell of the beginning that
    a provider may still have cached.
    """

    id: UUID
    caller: Caller
    model: str
    task: str | None
    prompt_tokens_bound: int
    prompt_tokens_estimate: int
    max_tokens: int | None
    is_stream: bool
    wire: WireName = "openai"
    kind: Kind = "chat"
    has_tools: bool = False
    images: int = 0
    needs_json: bool = False
    untranslatable: tuple[str, ...] = ()
    droppable: tuple[str, ...] = ()
    quality_min: float | None = None
    max_cost_nusd: NanoUsd | None = None
    timeout_s: float | None = None
    subject: str | None = None
    claim: IdempotencyClaim | None = None
    trace: RequestTrace | None = None
    received_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    language: str | None = None
    is_untrusted: bool = False
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])
    pii: tuple[str, ...] | None = None
    prefix_digest: str | None = None
    prefix_tokens: int = 0
    cache: CacheWish | None = None

    @property
    def has_images(self) -> bool:
        """True if the prompt shows an image."""
        return self.images > 0


@dataclass(frozen=True, slots=True)
class ProviderCall:
    """One attempt: a body on the caller's `wire`, to be sent with this model and at most so many tokens.

    The provider's client translates where it speaks the other wire; what it gives back is on the caller's again.
    """

    request_id: UUID
    deployment_id: str
    model: str
    max_tokens: int
    wire: WireName
    kind: Kind
    body: Mapping[str, object]
    connect_timeout_s: float
    traceparent: str | None = None
    stream_id: UUID | None = None
    """Under this name the provider may be told of more tokens while it streams; None: `max_tokens` is all it gets."""


@dataclass(frozen=True, slots=True)
class UsageReport:
    """What a provider said it used: a usage, or None where the report is nonsense (negative, not a number)."""

    usage: Usage | None


@dataclass(frozen=True, slots=True)
class ProviderAnswer:
    """A whole answer: JSON text on the caller's wire. `report` is None where the provider reported no usage at all."""

    body: bytes
    report: UsageReport | None
    has_content: bool
    provider_request_id: str | None


@dataclass(frozen=True, slots=True)
class StreamFrame:
    """One event of an answer on the caller's wire: `data` is the JSON text of its `data:` line.

    `event` is the name that the Anthropic wire writes before it; empty on the OpenAI wire. `has_content` says that it
    carries what the model said (text, thinking, a tool call, a refusal), `is_end` that it carries the finish reason,
    `is_cut` that this reason is the limit of tokens.
    `is_usage_only` marks the frame that a caller sees only if it asked for the usage, and never on the Anthropic wire.
    """

    data: bytes
    event: bytes = b""
    has_content: bool = False
    is_end: bool = False
    is_cut: bool = False
    report: UsageReport | None = None
    is_usage_only: bool = False
    provider_request_id: str | None = None
