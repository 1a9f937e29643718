"""One stage of training as a contract: what goes in, what comes out, and the key that names it.

The asset that asks writes a `StageSpec`; the training process answers with a `StageOutcome` in its work folder.
"""

from collections.abc import Mapping
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from auterity_dagster.neuroweaver.example import Message
from auterity_dagster.neuroweaver.jsonl import digest
from auterity_dagster.neuroweaver.recipe import Recipe


class Stage(StrEnum):
    """What the training process can do."""

    BASE = "base"
    PLAN = "plan"
    SFT = "sft"
    SAMPLE = "sample"
    DPO = "dpo"
    GRPO = "grpo"
    BUNDLE = "bundle"
    GENERATE = "generate"


SHARED_STAGES = frozenset({Stage.PLAN, Stage.SFT, Stage.DPO, Stage.GRPO})
"""Stages that several processes can share; the others run in one, whatever the recipe's hardware."""


class ExitCode(IntEnum):
    """How the training process ended; the same number stands in `outcome.json`."""

    VERIFIED = 0
    SPEC_INVALID = 64
    DATA_INVALID = 65
    INPUT_CHANGED = 66
    OUT_OF_MEMORY = 71
    STORE_FAILED = 74
    STOPPED = 75
    NOT_LEARNED = 76
    LOCKED = 79


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Generation(_Frozen):
    """How `sample` and `generate` decode: greedy at temperature 0, else one answer per temperature and prompt."""

    max_new_tokens: int = Field(ge=1, le=4096)
    temperatures: tuple[float, ...] = (0.0,)
    batch: int = Field(default=16, ge=1, le=256)
    seed: int = 0


class StageSpec(_Frozen):
    """Everything one run of the training process reads; `inputs` are digests in the object store below `store`.

    `halvings` says how often the batch was halved, and its accumulation doubled, because memory ran out; `cap_s` counts
    the seconds of all attempts; `nusd_per_hour` is what the machine costs.
    """

    schema_version: int = Field(default=1, ge=1, le=1)
    stage: Stage
    stage_key: str = Field(pattern=r"^[0-9a-f]{64}$")
    recipe: Recipe
    inputs: Mapping[str, str]
    store: Path
    workdir: Path
    generation: Generation | None = None
    expected: Mapping[str, float] = {}
    cap_s: int = Field(ge=1)
    halvings: int = Field(default=0, ge=0, le=1)
    nusd_per_hour: int = Field(default=0, ge=0)


class StageOutcome(_Frozen):
    """How a run of the training process ended; `digest` names its result in the object store.

    `elapsed_s` counts all attempts; `stopped_by` says why a stage that can go on did not: it was told to, or its time
    was up.
    """

    code: ExitCode
    reason: str
    digest: str | None = None
    metrics: Mapping[str, float] = {}
    facts: Mapping[str, str] = {}
    resumed_from_step: int | None = None
    elapsed_s: float = 0.0
    stopped_by: Literal["signal", "cap"] | None = None


class StageEvent(_Frozen):
    """One line of `events.jsonl`: the progress of a stage, for people and for the metrics of its MLflow run."""

    kind: str
    at: float
    step: int | None = None
    steps: int | None = None
    values: Mapping[str, float] = {}
    text: str = ""


class PromptLine(_Frozen):
    """One prompt to answer: the messages up to and without the assistant's turn."""

    id: str
    messages: tuple[Message, ...]


class AnswerLine(_Frozen):
    """One answer: `temperature` tells the candidates of one prompt apart, `stop_reason` is `stop` or `length`."""

    id: str
    temperature: float
    text: str
    stop_reason: str
    prompt_tokens: int
    completion_tokens: int
    latency_ms: float


class PairLine(_Frozen):
    """One preference to learn: two answers to the same prompt, the better one first."""

    id: str
    messages: tuple[Message, ...]
    chosen: str
    rejected: str


def stage_key(stage: Stage, *, recipe: Recipe, inputs: Mapping[str, str], code: str, extra: object = None) -> str:
    """Return the SHA-256 of all that decides a stage's result: two equal keys mean that the result may be reused.

    `code` is the digest of the training code and of the locked versions it runs on.
    """
    block = {Stage.SFT: recipe.sft, Stage.DPO: recipe.dpo, Stage.GRPO: recipe.grpo, Stage.PLAN: recipe}.get(stage)
    parts = {
        "stage": stage,
        "base": recipe.base.model_dump(mode="json"),
        "adapter": recipe.adapter.model_dump(mode="json"),
        "data": recipe.data.model_dump(mode="json"),
        "hardware": recipe.hardware.model_dump(mode="json"),
        "block": None if block is None else block.model_dump(mode="json"),
        "seed": recipe.seed,
        "inputs": dict(inputs),
        "code": code,
        "extra": extra,
    }
    return digest(parts)
