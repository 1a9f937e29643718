"""Group-relative optimisation on top of an adapter: rewards are programs, and the frozen start is never far away."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from datasets import Dataset
from peft import PeftModel
from transformers import PreTrainedTokenizerBase, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import PrinterCallback
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer

from auterity_dagster.errors import Invalid
from auterity_dagster.neuroweaver.example import Family, TrainingExample
from auterity_dagster.neuroweaver.recipe import GrpoStage
from auterity_dagster.neuroweaver.rewards import REWARDS, Rewarded, RewardWatch, held_out
from auterity_dagster.training.adapter import NotLearned, start_from_reference
from auterity_dagster.training.chat_format import render_prompt
from auterity_dagster.training.continuing import load_continued
from auterity_dagster.training.quantised import quantization_of
from auterity_dagster.training.run import StageResult, StageRun
from auterity_dagster.training.sft import common_arguments, shared_rows

WINDOW = 10
Reward = Callable[..., list[float | None]]


def train(run: StageRun) -> StageResult:
    """Optimise the adapter `sft` on prompts of `train`; it ends where nothing is left to learn or rewards are gamed."""
    recipe, stage = run.spec.recipe, run.spec.recipe.grpo
    if stage is None:
        raise Invalid(f"recipe {recipe.recipe} has no grpo stage", field="recipe.grpo")
    start = load_continued(run)
    model = start.model
    arguments = grpo_arguments(run, stage)
    watcher = GameWatch(RewardWatch(window=min(WINDOW, max(1, (stage.steps or 2 * WINDOW) // 2))), stage.rewards)
    callback = run.callback()
    trainer = make_trainer(
        model,
        start.tokenizer,
        start.examples[: stage.prompts],
        arguments=arguments,
        weights=stage.rewards,
        callbacks=[callback, watcher],
    )
    found, checkpoint = start.train(run, trainer, callback)
    after = start.save(run)
    metrics = reward_metrics(trainer.state.log_history)
    metrics |= {"start_log_probability": found, "end_log_probability": after}
    change = f"{metrics['first_reward']:.3f} -> {metrics['last_reward']:.3f}"
    return StageResult(
        digest=run.store.put_bundle(run.workdir.result),
        reason=f"reward {change} in {trainer.state.global_step} steps",
        metrics=metrics,
        facts={"quantization": quantization_of(model), "answers_a_step": shared_rows(arguments, run)},
        resumed_from_step=None if checkpoint is None else checkpoint.step,
    )


def make_trainer(
    model: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[TrainingExample],
    *,
    arguments: GRPOConfig,
    weights: Mapping[Any, float],
    callbacks: list[TrainerCallback],
) -> GRPOTrainer:
    """Return the trainer; the held-out judge is asked too, with the weight 0."""
    arguments.reward_weights = [*weights.values(), 0.0]
    rows = [
        {
            "prompt": render_prompt(tokenizer, [message.model_dump() for message in row.prompt]),
            "asked": row.prompt[-1].content,
            "family": row.family.value,
        }
        for row in examples
    ]
    trainer = GRPOTrainer(
        model=model,
        reward_funcs=[*(as_reward(name, REWARDS[name]) for name in weights), as_reward("held_out", held_out)],
        args=arguments,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        callbacks=callbacks,
    )
    trainer.remove_callback(PrinterCallback)
    start_from_reference(model)
    return trainer


def as_reward(name: str, program: Callable[[Rewarded], float]) -> Reward:
    """Return a program in the form that the trainer calls, under the name that its logs show."""

    def reward(*, completions: list[str], asked: list[str], family: list[str], **_: object) -> list[float | None]:
        return [
            program(Rewarded(Family(of_family), question, answer))
            for answer, question, of_family in zip(completions, asked, family, strict=True)
        ]

    reward.__name__ = name
    return reward


def grpo_arguments(run: StageRun, stage: GrpoStage) -> GRPOConfig:
    """Return the trainer's settings; an answer that was cut off teaches nothing, and the start is held on to."""
    return GRPOConfig(
        **common_arguments(run, stage),
        num_train_epochs=stage.epochs or 1.0,
        num_generations=stage.group,
        max_completion_length=stage.max_new_tokens,
        temperature=stage.temperature,
        beta=stage.beta,
        loss_type="dapo",
        mask_truncated_completions=True,
    )


class GameWatch(TrainerCallback):
    """Ends a training whose rewards say nothing any more, or are being gamed."""

    def __init__(self, watch: RewardWatch, weights: Mapping[Any, float]) -> None:
        self._watch = watch
        self._weights = weights

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, Any] | None = None,
        **_: Any,
    ) -> None:
        if not logs or "frac_reward_zero_std" not in logs:
            return
        trained = sum(weight * float(logs[f"rewards/{name}/mean"]) for name, weight in self._weights.items())
        why = self._watch.add(
            trained=trained,
            held_out=float(logs["rewards/held_out/mean"]),
            spreadless=float(logs["frac_reward_zero_std"]),
        )
        if why is not None:
            raise NotLearned(f"stopped at step {state.global_step}: {why}")


def reward_metrics(history: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return first and last reward (means of up to five steps), and how the last steps were."""
    logged = [entry for entry in history if "reward" in entry]
    if not logged:
        raise NotLearned("the trainer logged no rewards")

    def mean(entries: Sequence[Mapping[str, Any]], name: str) -> float:
        return sum(float(entry[name]) for entry in entries) / len(entries)

    head, tail = logged[:5], logged[-5:]
    return {
        "first_reward": mean(head, "reward"),
        "last_reward": mean(tail, "reward"),
        "held_out_first": mean(head, "rewards/held_out/mean"),
        "held_out_last": mean(tail, "rewards/held_out/mean"),
        "kl": mean(tail, "kl"),
        "cut_off": mean(tail, "completions/clipped_ratio"),
        "without_spread": mean(tail, "frac_reward_zero_std"),
        "steps": float(len(logged)),
    }
