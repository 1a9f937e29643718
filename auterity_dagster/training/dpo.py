"""Direct preference optimisation on top of the SFT adapter, checked at step 0 to start exactly there."""

from collections.abc import Sequence
from typing import Any

import torch
from datasets import Dataset
from transformers import PreTrainedTokenizerBase
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer

from auterity_dagster.errors import Invalid
from auterity_dagster.neuroweaver.example import TrainingExample
from auterity_dagster.neuroweaver.recipe import DpoStage, Recipe
from auterity_dagster.neuroweaver.stage import PairLine
from auterity_dagster.training.adapter import (
    base_of,
    check_moved,
    load_adapter,
    save_adapter,
    start_from_reference,
    trained_weights,
)
from auterity_dagster.training.base_model import device_of, load_for_training, load_tokenizer
from auterity_dagster.training.chat_format import STOP, pad_id, render_prompt
from auterity_dagster.training.checkpoint import TrainingStopped, newest_checkpoint
from auterity_dagster.training.likelihood import mean_log_probability
from auterity_dagster.training.quantised import quantization_of, wrong_gradients_are_errors
from auterity_dagster.training.run import StageResult, StageRun
from auterity_dagster.training.sft import REFERENCE_ROWS, check_losses, common_arguments, tokenised

MARGIN_TOLERANCE = 1e-4
LOG_PROBABILITY_TOLERANCE = 2e-2


def train(run: StageRun) -> StageResult:
    """Train the adapter `sft` further on `pairs`; the trainer keeps a frozen copy of it as the reference."""
    recipe, stage = run.spec.recipe, run.spec.recipe.dpo
    if stage is None:
        raise Invalid(f"recipe {recipe.recipe} has no dpo stage", field="recipe.dpo")
    adapter = run.checkout("sft")
    if base_of(adapter) != run.digest("base"):
        raise Invalid("the SFT adapter was trained on another base", code="base_mismatch")
    folder = run.checkout("base")
    tokenizer = load_tokenizer(folder)
    pairs = rendered(tokenizer, run.rows("pairs", PairLine))
    rows = tokenised(tokenizer, run.rows("train", TrainingExample), recipe.data)[:REFERENCE_ROWS]
    padding = pad_id(tokenizer)
    run.progress.phase("loading the base and the SFT adapter")
    base = load_for_training(
        folder, dtype=recipe.base.dtype, quantization=recipe.adapter.quantization, device=device_of(recipe)
    )
    model = load_adapter(base, adapter, is_trainable=True)
    trainer = DPOTrainer(
        model=model,
        ref_model=None,
        args=dpo_arguments(recipe, stage, str(run.workdir.path / "trainer")),
        train_dataset=Dataset.from_list(pairs),
        processing_class=tokenizer,
        callbacks=[callback := run.callback()],
    )
    run.silence(trainer)
    start_from_reference(model)
    with wrong_gradients_are_errors():
        found = mean_log_probability(model, rows, pad_id=padding)
        check_start(found, expected=run.spec.expected["reference_log_probability"])
        weights = trained_weights(model)
        checkpoint = newest_checkpoint(run.workdir.checkpoints, stage_key=run.spec.stage_key)
        run.progress.started(resumed_from_step=None if checkpoint is None else checkpoint.step)
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint.path))
    if callback.is_stopped:
        raise TrainingStopped(trainer.state.global_step, trainer.state.max_steps)
    check_moved(weights, model)
    metrics = check_losses(trainer.state.log_history) | margins(trainer.state.log_history)
    if checkpoint is None and abs(metrics["first_margin"]) > MARGIN_TOLERANCE:
        raise Invalid(f"the first margin is {metrics['first_margin']:.2e}: not the SFT adapter", code="wrong_start")
    after = mean_log_probability(model, rows, pad_id=padding)
    save_adapter(model, tokenizer, run.workdir.result, base_digest=run.digest("base"), dtype=torch.float32)
    metrics |= {"pairs": float(len(pairs)), "start_log_probability": found, "end_log_probability": after}
    return StageResult(
        digest=run.store.put_bundle(run.workdir.result),
        reason=f"margin 0 -> {metrics['last_margin']:.3f} in {trainer.state.global_step} steps on {len(pairs)} pairs",
        metrics=metrics,
        facts={"quantization": quantization_of(model)},
        resumed_from_step=None if checkpoint is None else checkpoint.step,
    )


def rendered(tokenizer: PreTrainedTokenizerBase, pairs: Sequence[PairLine]) -> list[dict[str, str]]:
    """Return texts whose answers end in the stop token: the trainer's own rendering scores a line feed after it."""
    return [
        {
            "prompt": render_prompt(tokenizer, [message.model_dump() for message in pair.messages]),
            "chosen": pair.chosen + STOP,
            "rejected": pair.rejected + STOP,
        }
        for pair in pairs
    ]


def dpo_arguments(recipe: Recipe, stage: DpoStage, folder: str) -> DPOConfig:
    """Return the trainer's settings; the reference is never computed beforehand, which would repack 4-bit weights."""
    return DPOConfig(
        **common_arguments(recipe, folder),
        max_steps=stage.steps or -1,
        num_train_epochs=stage.epochs or 1.0,
        per_device_train_batch_size=stage.batch,
        gradient_accumulation_steps=stage.accumulate,
        learning_rate=stage.learning_rate,
        save_steps=stage.save_every,
        beta=stage.beta,
        loss_type=["sigmoid", "sft"],
        loss_weights=[stage.losses.sigmoid, stage.losses.sft],
        max_length=None,
        precompute_ref_log_probs=False,
    )


def check_start(found: float, *, expected: float) -> None:
    """Raise `Invalid` unless the model finds the SFT rows as likely as the SFT stage did.

    Margins of 0 do not show it: the bare base compared with itself has those too.
    """
    if abs(found - expected) > LOG_PROBABILITY_TOLERANCE:
        raise Invalid(
            f"mean log-probability of {REFERENCE_ROWS} rows is {found:.4f}, the SFT adapter had {expected:.4f}",
            code="wrong_start",
        )


def margins(history: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return the first and last reward margin and accuracy that the trainer logged."""
    logged = [entry for entry in history if "rewards/margins" in entry]
    if not logged:
        raise Invalid("the trainer logged no margins", code="wrong_start")
    return {
        "first_margin": float(logged[0]["rewards/margins"]),
        "last_margin": float(logged[-1]["rewards/margins"]),
        "last_accuracy": float(logged[-1]["rewards/accuracies"]),
    }
