"""What a model is trained and measured on: chat examples, preference pairs, evaluation items and their results.

Rows live in canonical JSONL files (`jsonl.py`); unknown fields are refused.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, JsonValue, model_validator

from auterity_dagster.neuroweaver.jsonl import canonical_json, digest

CONTENT_LIMIT = 8_000
ROW_LIMIT_BYTES = 64 * 1024
TOOLS_LIMIT_BYTES = 16 * 1024

CONTROL_STRINGS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<repo_name>",
    "<reponame>",
    "<file_sep>",
    "<filename>",
    "<gh_stars>",
    "<issue_start>",
    "<issue_comment>",
    "<issue_closed>",
    "<jupyter_start>",
    "<jupyter_text>",
    "<jupyter_code>",
    "<jupyter_output>",
    "<jupyter_script>",
    "<empty_output>",
)
"""Texts that a tokenizer would turn into control tokens: written by a customer they would end or forge a turn."""

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Share = Annotated[float, Field(ge=0, le=1)]


class Family(StrEnum):
    """A kind of dealership work: the gateway's task, the prompt's task and the evaluation's family."""

    LEAD_REPLY = "lead_reply"
    SERVICE_REMINDER = "service_reminder"
    SERVICE_TRIAGE = "service_triage"
    STOCK_QUESTION = "stock_question"


class Split(StrEnum):
    """Which part of a dataset a row is in; one customer is in one part only."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


Role = Literal["system", "user", "assistant"]
Source = Literal["synthetic", "import_jsonl", "import_csv", "gateway_trace", "approval_edit"]
Label = Literal["accepted", "edited", "outcome_good", "none"]


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Message(_Row):
    """One turn of a conversation."""

    role: Role
    content: str = Field(min_length=1, max_length=CONTENT_LIMIT)

    @model_validator(mode="after")
    def _has_no_control_token(self) -> Self:
        if found := next((token for token in CONTROL_STRINGS if token in self.content), None):
            raise ValueError(f"the content contains the control token `{found}`")
        return self


class GroupKeys(_Row):
    """Who and what a row is about, as keyed hashes: rows that share one stay in one split."""

    customer: str = Field(min_length=1, max_length=128)
    conversation: str | None = Field(default=None, max_length=128)
    vehicle: str | None = Field(default=None, max_length=128)
    lead: str | None = Field(default=None, max_length=128)


class GeneratorMark(_Row):
    """Which generator wrote a synthetic row, and from which seed."""

    name: str = Field(min_length=1, max_length=64)
    version: int = Field(ge=1)
    seed: int = Field(ge=0)


class TrainingExample(_Row):
    """One conversation whose `trained_turns` (indices of assistant messages) a model learns."""

    example_id: Sha256
    organization_id: UUID | None
    dealership_id: UUID | None
    family: Family
    messages: tuple[Message, ...] = Field(min_length=3, max_length=64)
    tools: tuple[dict[str, JsonValue], ...] | None = Field(default=None, max_length=16)
    trained_turns: tuple[int, ...] = Field(min_length=1)
    group_keys: GroupKeys
    source: Source
    label: Label
    consent_id: UUID | Literal["synthetic"]
    licence: str = Field(min_length=1, max_length=64)
    created_at: AwareDatetime
    quality: Share | None = None
    split: Split | None = None
    generator: GeneratorMark | None = None

    @model_validator(mode="after")
    def _holds_together(self) -> Self:
        _check_order(self.messages)
        for turn in self.trained_turns:
            if not 0 <= turn < len(self.messages) or self.messages[turn].role != "assistant":
                raise ValueError(f"trained turn {turn} is no assistant message")
        if self.example_id != example_id(self.messages, self.tools):
            raise ValueError("example_id is not the digest of messages and tools")
        if self.source != "synthetic" and (self.organization_id is None or self.dealership_id is None):
            raise ValueError("only a synthetic row may lack its organization and dealership")
        if self.tools is not None and len(canonical_json(self.tools).encode()) > TOOLS_LIMIT_BYTES:
            raise ValueError(f"tools are larger than {TOOLS_LIMIT_BYTES} bytes")
        if len(canonical_json(self.model_dump(mode="json")).encode()) > ROW_LIMIT_BYTES:
            raise ValueError(f"the row is larger than {ROW_LIMIT_BYTES} bytes")
        return self

    @property
    def answer(self) -> str:
        """The last assistant turn."""
        return self.messages[-1].content

    @property
    def prompt(self) -> tuple[Message, ...]:
        """Everything before the last turn."""
        return self.messages[:-1]


class Vote(_Row):
    """One answer of a judge about one pair in one order; `winner` is already mapped back to chosen or rejected."""

    judge: str
    rubric_digest: Sha256
    order: Literal["ab", "ba"]
    winner: Literal["a", "b", "tie"]
    criteria: Mapping[str, int]
    critical: tuple[Literal["a", "b"], ...]
    request_id: str
    cost_nusd: int = Field(ge=0)


class PreferencePair(_Row):
    """Two answers to one prompt. `p` is how surely `chosen` is better; DPO uses the rows labelled `pair` only."""

    pair_id: Sha256
    family: Family
    prompt: tuple[Message, ...] = Field(min_length=2)
    chosen: str = Field(min_length=1, max_length=CONTENT_LIMIT)
    rejected: str = Field(min_length=1, max_length=CONTENT_LIMIT)
    p: Share
    decided_by: Literal["program", "judge", "person"]
    label: Literal["pair", "tie", "discarded"]
    votes: tuple[Vote, ...] = ()


class EvaluationItem(_Row):
    """One question with what a right answer must hold; `scorer` names the program in `scoring` that marks answers.

    `expected` is what that program compares with; `cluster` groups items that are not independent.
    `canary_guid` stands in every suite file, so that a suite which leaked into training data can be found.
    """

    item_id: Sha256
    family: Family
    messages: tuple[Message, ...] = Field(min_length=2)
    facts: str
    expected: Mapping[str, JsonValue]
    scorer: str
    critical_rules: tuple[str, ...]
    cluster: str
    twin_of: Sha256 | None = None
    origin: str
    canary_guid: UUID


class ItemResult(_Row):
    """What one artefact answered to one item, and how a program marked it."""

    item_id: Sha256
    artefact_digest: str
    output: str
    stop_reason: Literal["stop", "length", "error"]
    completion_tokens: int = Field(ge=0)
    latency_ms: float = Field(ge=0)
    score: Share
    critical: tuple[str, ...] = ()


def example_id(messages: Sequence[Message], tools: Sequence[Mapping[str, JsonValue]] | None) -> str:
    """Return a row's content address: SHA-256 over canonical messages and tools."""
    return digest({"messages": [message.model_dump() for message in messages], "tools": tools})


def item_id(family: Family, messages: Sequence[Message], expected: Mapping[str, JsonValue]) -> str:
    """Return an evaluation item's content address."""
    return digest(
        {"family": family.value, "messages": [message.model_dump() for message in messages], "expected": expected}
    )


def pair_id(prompt: Sequence[Message], first: str, second: str) -> str:
    """Return a pair's content address; which answer comes first does not matter."""
    return digest({"prompt": [message.model_dump() for message in prompt], "answers": sorted((first, second))})


def synthetic_example(
    *,
    family: Family,
    messages: Sequence[Message],
    group_keys: GroupKeys,
    generator: GeneratorMark,
    created_at: datetime,
) -> TrainingExample:
    """Return a row of a generator, labelled synthetic in every field that says where a row came from."""
    return TrainingExample(
        example_id=example_id(messages, None),
        organization_id=None,
        dealership_id=None,
        family=family,
        messages=tuple(messages),
        trained_turns=(len(messages) - 1,),
        group_keys=group_keys,
        source="synthetic",
        label="accepted",
        consent_id="synthetic",
        licence="Apache-2.0",
        created_at=created_at,
        generator=generator,
    )


def _check_order(messages: Sequence[Message]) -> None:
    if messages[0].role != "system":
        raise ValueError("first message must be `system`")
    if messages[-1].role != "assistant":
        raise ValueError("last message must be `assistant`")
    if messages[1].role != "user":
        raise ValueError("second message must be `user`")
    if any(message.role == "system" for message in messages[1:]):
        raise ValueError("only the first message may be `system`")
