"""What AutoMatrix needs from the world; adapters raise the errors of `errors.py` and nothing else."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Literal, Protocol
from uuid import UUID

from auterity_dagster.automatrix.execution import ExecutionEvent, ExecutionState, StepError, StepStarted
from auterity_dagster.automatrix.publication import CompiledWorkflow

Channel = Literal["sms", "email"]


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to work on an execution until the lease ends; a higher fence takes it away."""

    organization_id: UUID
    execution_id: UUID
    fence: int


@dataclass(frozen=True, slots=True)
class Decision:
    """What became of an approval."""

    outcome: Literal["approved", "rejected", "expired"]
    final: Mapping[str, str]
    decided_by: str | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A claimed execution as the journal knows it. `scope` lacks `steps`: those come from the state."""

    claim: Claim
    dealership_id: UUID
    workflow: CompiledWorkflow
    state: ExecutionState
    scope: Mapping[str, object]
    decisions: Mapping[str, Decision]


@dataclass(frozen=True, slots=True)
class ApprovalForm:
    """What a person sees and may change. `show` is text to read, `fields` may be edited."""

    role: str
    title: str
    show: Mapping[str, object]
    fields: Mapping[str, str]
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class ApprovalOpened:
    """Ask a person; a second opening for the same step changes nothing."""

    path: str
    form: ApprovalForm


@dataclass(frozen=True, slots=True)
class ApprovalExpired:
    """Close the approval if nobody decided meanwhile."""

    path: str


@dataclass(frozen=True, slots=True)
class TaskAssigned:
    """Give a person something to do; a second time for the same step changes nothing."""

    path: str
    role: str
    title: str
    due_at: datetime


class EffectState(StrEnum):
    """What is known about something that left the house."""

    INTENDED = "intended"
    CONFIRMED = "confirmed"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Effect:
    """Something that happens outside at most once for its key."""

    key: str
    kind: str
    request: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class EffectRecord:
    """The ledger's row. `is_new` is true for the worker that wrote the intention just now."""

    state: EffectState
    is_new: bool
    provider_ref: str | None


@dataclass(frozen=True, slots=True)
class EffectResolved:
    """What became of an intended effect."""

    key: str
    state: EffectState
    provider_ref: str | None
    error: StepError | None = None


Entry = ExecutionEvent | ApprovalOpened | ApprovalExpired | TaskAssigned | EffectResolved


class Journal(Protocol):
    """Truth about executions. A write names its claim; with an old fence it raises `LeaseLost`, and changes none."""

    def claim(
        self, *, job: str, lane: str, batch: int, run_id: str, now: datetime, lease_until: datetime
    ) -> tuple[Claim, ...]:
        """Take executions that are ready, fair over organizations; nobody else gets them until the lease ends."""
        ...

    def load(self, claims: Sequence[Claim]) -> tuple[Snapshot, ...]:
        """Return the executions that are still held under these claims."""
        ...

    def extend(self, claims: Sequence[Claim], lease_until: datetime) -> None:
        """Hold on longer; claims that were lost are left alone."""
        ...

    def begin_step(
        self, snapshot: Snapshot, started: StepStarted, *, effect: Effect | None, now: datetime, lease_until: datetime
    ) -> EffectRecord | None:
        """Commit that an attempt begins, and what it intends to do outside, before it does it."""
        ...

    def write(self, snapshot: Snapshot, entries: Sequence[Entry], *, after: ExecutionState, now: datetime) -> None:
        """Commit results, waits, ledger and outbox together."""
        ...


@dataclass(frozen=True, slots=True)
class ChatCall:
    """One question to a model, already written out; `idempotency_key` gives a repeat the first answer."""

    organization_id: UUID
    dealership_id: UUID
    task: str
    model: str
    system: str
    user: str
    max_output_tokens: int
    timeout_s: float
    idempotency_key: str


@dataclass(frozen=True, slots=True)
class ChatReply:
    """What came back, from whom and for how much."""

    text: str
    deployment: str
    prompt_tokens: int
    completion_tokens: int
    cost_nusd: int


class ChatFailed(Exception):
    """The gateway gave no answer; `code` is one of a step's errors (`rate_limited`, `budget_exceeded`, …)."""

    def __init__(self, code: str, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.retry_after_s = retry_after_s


class ChatModel(Protocol):
    """RelayCore, as a step sees it."""

    def complete(self, call: ChatCall) -> ChatReply:
        """Raises `ChatFailed`."""
        ...


@dataclass(frozen=True, slots=True)
class Message:
    """One text to one address; `text` is plain and rendered by nothing."""

    organization_id: UUID
    dealership_id: UUID
    channel: Channel
    address: str
    subject: str | None
    text: str
    purpose: str


@dataclass(frozen=True, slots=True)
class Receipt:
    """The messenger took the message and names it."""

    message_id: str


class MessengerFailed(Exception):
    """The messenger did not take the message; `is_unknown` if it may have."""

    def __init__(self, code: str, message: str, *, is_unknown: bool) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.is_unknown = is_unknown


class Messenger(Protocol):
    """Whoever carries messages to customers."""

    @property
    def repeats_safely(self) -> bool:
        """True if sending twice with one key delivers once."""
        ...

    def send(self, message: Message, key: str) -> Receipt:
        """Raises `MessengerFailed`."""
        ...

    def lookup(self, key: str) -> Receipt | None:
        """Return the receipt of an earlier `send` with this key, None if the messenger knows of none."""
        ...


@dataclass(frozen=True, slots=True)
class Address:
    """Where a contact can be reached; with a `suppression` nothing is sent there."""

    value: str
    suppression: str | None


class Contacts(Protocol):
    """The people of an organization."""

    def address(self, organization_id: UUID, contact_id: UUID, channel: Channel) -> Address | None:
        """Return where to write, None if this organization has no such contact or address."""
        ...


@dataclass(frozen=True, slots=True)
class StockVehicle:
    """One vehicle of the feed."""

    stock_number: str
    vin: str | None
    year: int | None
    make: str
    vehicle_model: str
    trim: str | None
    condition: Literal["new", "used"] | None
    status: Literal["available", "on hold", "sold"]
    price_nusd: int | None


class Inventory(Protocol):
    """What a dealership has in stock."""

    def search(
        self, organization_id: UUID, dealership_id: UUID, wanted: Sequence[Mapping[str, object]], limit: int
    ) -> tuple[StockVehicle, ...]:
        """Return the vehicles that fit best."""
        ...
