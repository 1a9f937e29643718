"""What AutoMatrix needs from the world; adapters raise the errors of `errors.py` and nothing else."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Literal, Protocol
from uuid import UUID

from auterity_dagster.automatrix.compiled_workflow import CompiledWorkflow
from auterity_dagster.automatrix.compliance.decision import ContactFacts, DraftMessage, SendDecision
from auterity_dagster.automatrix.compliance.rows import Channel
from auterity_dagster.automatrix.event import Event
from auterity_dagster.automatrix.execution import ExecutionEvent, ExecutionState, StepError, StepStarted
from auterity_dagster.errors import Conflict
from auterity_dagster.money import NanoUsd


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
class Arrival:
    """What ended a wait before its time: an event as expressions see it."""

    event: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A claimed execution as the journal knows it. `scope` lacks `steps`: those come from the state.

    `decisions` and `arrivals` are what came for its steps, by their paths. `depth` counts the executions before it;
    `root_id` is the first execution of a replayed one, whose keys it keeps.
    """

    claim: Claim
    dealership_id: UUID
    time_zone: str
    subject: str
    workflow: CompiledWorkflow
    state: ExecutionState
    scope: Mapping[str, object]
    decisions: Mapping[str, Decision]
    arrivals: Mapping[str, Arrival]
    depth: int
    parent_id: UUID | None
    root_id: UUID


@dataclass(frozen=True, slots=True)
class ApprovalForm:
    """What a person sees and may change. `show` is text to read, `fields` may be edited.

    Whoever decided the approval at the path `other_than` may not decide this one.
    """

    role: str
    title: str
    show: Mapping[str, object]
    fields: Mapping[str, str]
    expires_at: datetime
    other_than: str | None


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


@dataclass(frozen=True, slots=True)
class WaitOpened:
    """Wait for an event of the dealership whose data has these values, or for the time; once for a step."""

    path: str
    expires_at: datetime
    event_type: str | None
    match: Mapping[str, str | int | bool]


@dataclass(frozen=True, slots=True)
class WaitElapsed:
    """Close the wait as elapsed, unless its event came meanwhile: then the whole write is refused."""

    path: str


@dataclass(frozen=True, slots=True)
class EventEmitted:
    """Tell other workflows: they start, or their waits end, in the transaction of the step's result."""

    event: Event


class EffectState(StrEnum):
    """What is known about something that left the house."""

    INTENDED = "intended"
    CONFIRMED = "confirmed"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class IntendedMessage:
    """A message to a contact; `decide` is called with what is known about the contact, under the contact's lock.

    `amounts` are the prices that the text names. `inquired` is true if the contact's own message started this.
    """

    contact_id: UUID
    dealership_id: UUID
    draft: DraftMessage
    amounts: tuple[NanoUsd, ...]
    inquired: bool
    decide: Callable[[ContactFacts], SendDecision]


@dataclass(frozen=True, slots=True)
class Effect:
    """Something that happens outside at most once for its key; a `message` only if its decision allows it."""

    key: str
    kind: str
    request: Mapping[str, object]
    message: IntendedMessage | None = None


@dataclass(frozen=True, slots=True)
class Permission:
    """What was decided about a message in the transaction that intends it, and whom it is for."""

    decision: SendDecision
    address: str | None


@dataclass(frozen=True, slots=True)
class EffectRecord:
    """The ledger's row. `is_new` is true for the worker that wrote the intention just now."""

    state: EffectState
    is_new: bool
    provider_ref: str | None
    permission: Permission | None = None


@dataclass(frozen=True, slots=True)
class EffectResolved:
    """What became of an intended effect."""

    key: str
    state: EffectState
    provider_ref: str | None
    error: StepError | None = None


Entry = (
    ExecutionEvent
    | ApprovalOpened
    | ApprovalExpired
    | TaskAssigned
    | WaitOpened
    | WaitElapsed
    | EventEmitted
    | EffectResolved
)


class AnsweredMeanwhile(Conflict):
    """What a step waited for came while a worker took it for expired: nothing was written, load and look again."""

    code = "answered_meanwhile"


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

    def is_work_ready(self, now: datetime) -> bool:
        """True if an execution of any job and lane waits for a worker."""
        ...

    def begin_step(
        self,
        snapshot: Snapshot,
        started: StepStarted,
        *,
        effect: Effect | None,
        now: datetime,
        lease_until: datetime,
        before: Sequence[Entry] = (),
    ) -> EffectRecord | None:
        """Commit that an attempt begins, and what it intends to do outside, before it does it.

        `before` is what led to the snapshot's state and is not written yet: it is committed with it.
        """
        ...

    def write(self, snapshot: Snapshot, entries: Sequence[Entry], *, after: ExecutionState, now: datetime) -> None:
        """Commit results, waits, ledger and outbox together. Raises `AnsweredMeanwhile`."""
        ...


@dataclass(frozen=True, slots=True)
class ChildCall:
    """A workflow to start for a step, with the data of the event that it sees."""

    workflow: str
    is_awaited: bool
    data: Mapping[str, object]
    findings: Mapping[str, object]


class Children(Protocol):
    """Executions that steps start."""

    def start(self, snapshot: Snapshot, path: str, call: ChildCall, *, now: datetime) -> UUID:
        """Start one for this step, or return the one that was started for it; its end is an arrival if awaited.

        Raises `NotFound`, `Invalid`, `Conflict` if the workflow's concurrency lets it not run, `RateLimited`, and
        `LeaseLost`.
        """
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
    """One text to one address; `text` is plain and rendered by nothing.

    `unsubscribe_url` is for the mail program's own button; None where no rule asks for one.
    """

    organization_id: UUID
    dealership_id: UUID
    channel: Channel
    address: str
    subject: str | None
    text: str
    purpose: str
    unsubscribe_url: str | None = None


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

    def is_live(self, organization_id: UUID, channel: Channel) -> bool:
        """True if messages of this organization really leave; a sandbox only records them."""
        ...

    def repeats_safely(self, message: Message) -> bool:
        """True if sending it twice with one key delivers once."""
        ...

    def send(self, message: Message, key: str) -> Receipt:
        """Raises `MessengerFailed`."""
        ...

    def lookup(self, message: Message, key: str) -> Receipt | None:
        """Return the receipt of an earlier `send` with this key, None if the messenger knows of none."""
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
    status: Literal["available", "on hold", "sold", "unlisted"]
    price_nusd: int | None


class Inventory(Protocol):
    """What a dealership has in stock."""

    def search(
        self, organization_id: UUID, dealership_id: UUID, wanted: Sequence[Mapping[str, object]], limit: int
    ) -> tuple[StockVehicle, ...]:
        """Return the vehicles that fit best."""
        ...
