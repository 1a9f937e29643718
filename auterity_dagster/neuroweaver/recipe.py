"""Training recipes: every number of a training, read strictly from `config/recipes/*.yaml`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from auterity_dagster.errors import ConfigurationInvalid, Invalid
from auterity_dagster.money import NanoUsd, in_usd, nano_usd
from auterity_dagster.neuroweaver.configuration import read_configuration
from auterity_dagster.neuroweaver.example import Family
from auterity_dagster.neuroweaver.jsonl import digest

Dollars = Annotated[str, Field(pattern=r"^\d{1,6}(\.\d{1,9})?$")]
LearningRate = Annotated[float, Field(gt=0, le=0.01)]
RewardName = Literal["grounded", "next_step", "length"]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$")]


class _Block(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Base(_Block):
    """The model that adapters are trained on. `sha256` is of the GGUF file, or of the bundle's manifest.

    A null digest is filled in when the base is stored; until then `base_model` refuses the recipe. A `generated` base
    is made from the seed and has no digest to know beforehand.
    """

    id: Name
    source: str = Field(pattern=r"^(pip:[a-z0-9_-]+==[0-9][0-9a-z.]*|store:[a-z0-9_./-]+|generated:[a-z0-9-]+)$")
    format: Literal["gguf", "safetensors", "generated"]
    quantised_origin: Literal["gguf-q4_1"] | None = None
    dtype: Literal["float32", "bfloat16"]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None
    chat_format: Literal["smollm2", "tokenizer"]
    licence: str = Field(min_length=1, max_length=64)


class Hardware(_Block):
    """Where a stage runs; `device_class` is part of the key under which a finished stage is remembered."""

    device_class: Literal["cpu", "cpu-avx512bf16", "cuda-24g", "cuda-80g"] = Field(alias="class")
    threads: int = Field(ge=1, le=256)
    processes: int = Field(ge=1, le=64)
    launcher: Literal["subprocess", "accelerate", "kubernetes"]

    @model_validator(mode="after")
    def _several_processes_need_a_launcher(self) -> Self:
        if self.processes > 1 and self.launcher == "subprocess":
            raise ValueError("more than one process needs the launcher accelerate or kubernetes")
        return self


class Data(_Block):
    """Which rows a candidate learns, and how they become token sequences.

    A candidate is trained, measured and gated on its `families`, and routed for their tasks only. `auto`: the 99.5th
    percentile of the lengths, rounded up to 64.
    """

    families: tuple[Family, ...] = Field(min_length=1)
    max_length: Literal["auto"] | Annotated[int, Field(ge=64, le=131_072)]
    max_length_cap: int = Field(ge=64, le=131_072)
    over_length: Literal["drop", "raise"]
    max_dropped: float = Field(ge=0, le=0.05)
    packing: Literal[False]


class Quantization(_Block):
    """4-bit weights of the frozen base."""

    type: Literal["nf4"]
    double: bool
    compute: Literal["bfloat16"]


class Adapter(_Block):
    """The trained low-rank weights."""

    kind: Literal["lora", "qlora"]
    r: int = Field(ge=1, le=256)
    alpha: int = Field(ge=1, le=512)
    dropout: float = Field(ge=0, le=0.5)
    modules: Literal["all-linear"]
    quantization: Quantization | None

    @model_validator(mode="after")
    def _is_called_what_it_is(self) -> Self:
        if (self.kind == "qlora") != (self.quantization is not None):
            raise ValueError("qlora needs a quantization, lora has none: plain LoRA is never called QLoRA")
        return self


class Share(NamedTuple):
    """Rows that one process puts through at once, and how often before the optimiser steps."""

    batch: int
    accumulate: int


class _Steps(_Block):
    steps: int | None = Field(default=None, ge=1, le=1_000_000)
    epochs: float | None = Field(default=None, gt=0, le=100)
    batch: int = Field(ge=1, le=1024)
    accumulate: int = Field(ge=1, le=1024)
    learning_rate: LearningRate
    save_every: int = Field(ge=1, le=100_000)

    @model_validator(mode="after")
    def _has_one_length(self) -> Self:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give either steps or epochs")
        return self

    @property
    def rows_per_step(self) -> int:
        """Rows that one optimiser step sees, over all processes: the same however many there are."""
        return self.batch * self.accumulate

    def per_process(self, *, processes: int, halvings: int = 0) -> "Share":
        """Return what one of several processes does, its batch halved where memory ran out.

        Raises `Invalid` where the rows of a step cannot be shared evenly, or a batch not be halved.
        """
        batch, accumulate = self.batch, self.accumulate
        if accumulate % processes == 0:
            accumulate //= processes
        elif batch % processes == 0:
            batch //= processes
        else:
            raise Invalid(
                f"{batch} x {accumulate} rows a step cannot be shared by {processes} processes", field="batch"
            )
        for _ in range(halvings):
            if batch % 2:
                raise Invalid(f"a batch of {batch} cannot be halved", field="batch")
            batch, accumulate = batch // 2, accumulate * 2
        return Share(batch, accumulate)


class SftStage(_Steps):
    """Supervised fine-tuning on the training examples."""

    schedule: Literal["cosine", "linear", "constant"]
    warmup: float = Field(ge=0, le=0.5)
    clip: float = Field(gt=0, le=100)
    autocast: Literal["bfloat16"] | None
    activation_checkpointing: bool
    optimizer: Literal["adamw", "paged_adamw_8bit"]


class PreferenceStage(_Block):
    """AI feedback: answers of the policy and of others to train prompts, compared by programs and a judge."""

    prompts: int = Field(ge=1, le=100_000)
    policy_answers: int = Field(ge=2, le=6)
    other_answers: int = Field(ge=0, le=4)
    max_new_tokens: int = Field(ge=8, le=4096)
    min_pairs: int = Field(ge=1, le=100_000)
    judge: Name
    rubric: Name


class DpoLosses(_Block):
    """Weights of the parts of the preference loss."""

    sigmoid: float = Field(gt=0, le=10)
    sft: float = Field(ge=0, le=10)


class DpoStage(_Steps):
    """Direct preference optimisation on top of the SFT adapter."""

    beta: float = Field(gt=0, le=1)
    losses: DpoLosses


class GrpoStage(_Steps):
    """Group-relative optimisation: groups of answers to a prompt, rewarded by programs; `batch` counts answers.

    `rewards` weighs the programs of `neuroweaver.rewards`; one that is not named there watches and does not count.
    """

    prompts: int = Field(ge=1, le=100_000)
    group: int = Field(ge=2, le=64)
    beta: float = Field(gt=0, le=1)
    temperature: float = Field(gt=0, le=2)
    max_new_tokens: int = Field(ge=8, le=4096)
    rewards: Mapping[RewardName, Annotated[float, Field(gt=0, le=1)]] = Field(min_length=1)

    @model_validator(mode="after")
    def _has_whole_groups_and_weights(self) -> Self:
        if self.rows_per_step % self.group:
            raise ValueError(f"{self.rows_per_step} answers a step are no whole groups of {self.group}")
        if abs(sum(self.rewards.values()) - 1) > 1e-9:
            raise ValueError("the weights of the rewards do not sum to 1")
        return self


class EvaluationStage(_Block):
    """How much is measured. Fewer items than the promotion profile asks for can never end in PASS."""

    profile: Literal["embedded", "standard", "release"]
    items_per_family: int = Field(ge=1, le=100_000)
    canaries: int = Field(ge=0, le=1000)
    max_new_tokens: int = Field(ge=8, le=4096)
    batch: int = Field(ge=1, le=1024)


class Budget(_Block):
    """What a candidate may cost, as decimal dollars and hours; over it, training is refused or paused."""

    cap_usd: Dollars
    cap_hours: float = Field(gt=0, le=720)
    judge_cap_usd: Dollars

    @property
    def cap_nusd(self) -> NanoUsd:
        """The cap for everything."""
        return nano_usd(self.cap_usd)

    @property
    def judge_cap_nusd(self) -> NanoUsd:
        """The part of the cap that judges may spend."""
        return nano_usd(self.judge_cap_usd)

    def within(self, cap_nusd: NanoUsd) -> "Budget":
        """Return the budget with at most this cap; judges keep their share of it."""
        if cap_nusd >= self.cap_nusd:
            return self
        judges_nusd = self.judge_cap_nusd * cap_nusd // self.cap_nusd
        return self.model_copy(update={"cap_usd": in_usd(cap_nusd), "judge_cap_usd": in_usd(judges_nusd)})

    @model_validator(mode="after")
    def _judges_fit_in(self) -> Self:
        if self.judge_cap_nusd > self.cap_nusd:
            raise ValueError("judge_cap_usd is above cap_usd")
        return self


class Recipe(_Block):
    """One way to train a candidate; a null stage is skipped. Its digest is part of every candidate's key."""

    recipe: Name
    version: int = Field(ge=1)
    seed: int = Field(ge=0, le=2**31 - 1)
    purpose: Literal["production", "demo", "test"]
    base: Base
    hardware: Hardware
    data: Data
    adapter: Adapter
    sft: SftStage
    preferences: PreferenceStage | None
    dpo: DpoStage | None
    grpo: GrpoStage | None
    evaluation: EvaluationStage
    budget: Budget

    @property
    def digest(self) -> str:
        """SHA-256 over every field in canonical spelling."""
        return digest(self.model_dump(mode="json"))

    @model_validator(mode="after")
    def _stages_fit_together(self) -> Self:
        if self.dpo is not None and self.preferences is None:
            raise ValueError("dpo needs preferences")
        if self.data.max_length != "auto" and self.data.max_length > self.data.max_length_cap:
            raise ValueError("data.max_length is above data.max_length_cap")
        if self.hardware.device_class.startswith("cpu") and self.sft.optimizer == "paged_adamw_8bit":
            raise ValueError("the optimizer paged_adamw_8bit needs a GPU")
        for name, stage in (("sft", self.sft), ("dpo", self.dpo), ("grpo", self.grpo)):
            processes = self.hardware.processes
            if stage is not None and stage.accumulate % processes and stage.batch % processes:
                raise ValueError(f"{name}: neither accumulate nor batch can be shared by {processes} processes")
        return self


def load_recipe(path: Path) -> Recipe:
    """Read one recipe. Raises `ConfigurationInvalid` with the file, the field and what is wrong with it."""
    recipe = read_configuration(path, Recipe)
    if recipe.recipe != path.stem:
        raise ConfigurationInvalid(f"{path}: recipe: the file is named {path.stem}, the recipe {recipe.recipe}")
    return recipe
