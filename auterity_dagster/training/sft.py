"""Supervised fine-tuning of an adapter on our own ids and labels, with TRL's trainer."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from datasets import Dataset
from transformers import PreTrainedTokenizerBase
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from auterity_dagster.errors import Invalid
from auterity_dagster.neuroweaver.example import TrainingExample
from auterity_dagster.neuroweaver.recipe import Data, Recipe
from auterity_dagster.training.adapter import (
    NotLearned,
    check_moved,
    keep_full_precision,
    new_adapter,
    save_adapter,
    trained_weights,
)
from auterity_dagster.training.base_model import device_of, load_for_training, load_tokenizer
from auterity_dagster.training.chat_format import IGNORED, TokenisedChat, pad_id, tokenise
from auterity_dagster.training.checkpoint import TrainingStopped, newest_checkpoint
from auterity_dagster.training.likelihood import mean_log_probability
from auterity_dagster.training.quantised import quantization_of, wrong_gradients_are_errors
from auterity_dagster.training.run import StageResult, StageRun

REFERENCE_ROWS = 20
"""Rows whose mean log-probability the preference stage must find again: it shows that it starts from this adapter."""


def train(run: StageRun) -> StageResult:
    """Train a fresh adapter on `train`, measure `validation` before and after, store it as a bundle."""
    recipe = run.spec.recipe
    folder = run.checkout("base")
    tokenizer = load_tokenizer(folder)
    rows = tokenised(tokenizer, run.rows("train", TrainingExample), recipe.data)
    padding = pad_id(tokenizer)
    held_out = tokenised(tokenizer, run.rows("validation", TrainingExample), recipe.data)[: 4 * REFERENCE_ROWS]
    run.progress.phase("loading the base")
    base = load_for_training(
        folder, dtype=recipe.base.dtype, quantization=recipe.adapter.quantization, device=device_of(recipe)
    )
    model = new_adapter(base, recipe.adapter)
    trainer = TrainedTokensOnly(
        model=model,
        args=sft_arguments(recipe, str(run.workdir.path / "trainer")),
        train_dataset=_dataset(rows),
        processing_class=tokenizer,
        callbacks=[callback := run.callback()],
    )
    run.silence(trainer)
    keep_full_precision(model)
    with wrong_gradients_are_errors():
        before = mean_log_probability(model, held_out, pad_id=padding)
        weights = trained_weights(model)
        checkpoint = newest_checkpoint(run.workdir.checkpoints, stage_key=run.spec.stage_key)
        run.progress.started(resumed_from_step=None if checkpoint is None else checkpoint.step)
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint.path))
    if callback.is_stopped:
        raise TrainingStopped(trainer.state.global_step, trainer.state.max_steps)
    check_moved(weights, model)
    losses = check_losses(trainer.state.log_history)
    after = mean_log_probability(model, held_out, pad_id=padding)
    save_adapter(model, tokenizer, run.workdir.result, base_digest=run.digest("base"), dtype=torch.float32)
    metrics = losses | {
        "held_out_loss_before": -before,
        "held_out_loss_after": -after,
        "reference_log_probability": mean_log_probability(model, rows[:REFERENCE_ROWS], pad_id=padding),
        "train_rows": float(len(rows)),
        "trained_tokens": float(sum(row.trained_tokens for row in rows)),
        "longest_row": float(max(len(row.input_ids) for row in rows)),
    }
    return StageResult(
        digest=run.store.put_bundle(run.workdir.result),
        reason=f"held-out loss {-before:.3f} -> {-after:.3f} in {trainer.state.global_step} steps",
        metrics=metrics,
        facts={"quantization": quantization_of(model), "trainable": str(sum(t.numel() for t in weights.values()))},
        resumed_from_step=None if checkpoint is None else checkpoint.step,
    )


class TrainedTokensOnly(SFTTrainer):
    """Scores trained positions only: without Triton, TRL's own loss puts every prompt token through the vocabulary."""

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Return the summed cross-entropy of the trained tokens over their number in the whole optimiser step."""
        labels = inputs.pop("labels")[:, 1:]
        base = self.accelerator.unwrap_model(model).get_base_model()
        hidden = base.model(**inputs, use_cache=False).last_hidden_state[:, :-1]
        mask = labels != IGNORED
        logits = base.lm_head(hidden[mask]).float()
        loss = torch.nn.functional.cross_entropy(logits, labels[mask], reduction="sum")
        loss = loss / (mask.sum() if num_items_in_batch is None else num_items_in_batch)
        return (loss, {"logits": logits}) if return_outputs else loss


def tokenised(
    tokenizer: PreTrainedTokenizerBase, examples: Sequence[TrainingExample], data: Data
) -> list[TokenisedChat]:
    """Return rows for the trainer; a row is trained whole or, where the recipe allows it, dropped, never cut."""
    rows = [
        tokenise(tokenizer, [message.model_dump() for message in each.messages], trained_turns=each.trained_turns)
        for each in examples
    ]
    limit = data.max_length_cap if data.max_length == "auto" else data.max_length
    kept = [row for row in rows if len(row.input_ids) <= limit]
    dropped = len(rows) - len(kept)
    if dropped and (data.over_length == "raise" or dropped > data.max_dropped * len(rows)):
        longest = max(len(row.input_ids) for row in rows)
        raise Invalid(f"{dropped} of {len(rows)} rows are longer than {limit} tokens, the longest has {longest}")
    if not kept:
        raise Invalid("no row is left to train on", code="not_enough_rows")
    return kept


def sft_arguments(recipe: Recipe, folder: str) -> SFTConfig:
    """Return the trainer's settings: the recipe's numbers, and every default that belongs to a GPU spelled out."""
    stage = recipe.sft
    return SFTConfig(
        **common_arguments(recipe, folder),
        max_steps=stage.steps or -1,
        num_train_epochs=stage.epochs or 3.0,
        per_device_train_batch_size=stage.batch,
        gradient_accumulation_steps=stage.accumulate,
        learning_rate=stage.learning_rate,
        lr_scheduler_type=stage.schedule,
        save_steps=stage.save_every,
        max_length=None,
        packing=False,
        dataset_kwargs={"skip_prepare_dataset": True},
    )


def common_arguments(recipe: Recipe, folder: str) -> dict[str, Any]:
    """Return what SFT and DPO share."""
    stage = recipe.sft
    return {
        "output_dir": folder,
        "seed": recipe.seed,
        "data_seed": recipe.seed,
        "use_cpu": recipe.hardware.device_class.startswith("cpu"),
        "bf16": stage.autocast == "bfloat16",
        "activation_checkpointing": stage.activation_checkpointing,
        "optim": {"adamw": "adamw_torch", "paged_adamw_8bit": "paged_adamw_8bit"}[stage.optimizer],
        "warmup_steps": stage.warmup,
        "max_grad_norm": stage.clip,
        "save_strategy": "steps",
        "save_total_limit": None,
        "logging_steps": 1,
        "disable_tqdm": True,
        "report_to": "none",
        "dataloader_pin_memory": False,
        "eval_strategy": "no",
    }


def check_losses(history: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return first and last loss (means of up to five steps). Raises `NotLearned` for a loss that is no number."""
    losses = [float(entry["loss"]) for entry in history if "loss" in entry]
    if not losses or not all(math.isfinite(loss) for loss in losses):
        raise NotLearned("the loss is not a finite number")
    head, tail = losses[:5], losses[-5:]
    return {"first_loss": sum(head) / len(head), "last_loss": sum(tail) / len(tail), "steps": float(len(losses))}


def _dataset(rows: Sequence[TokenisedChat]) -> Dataset:
    return Dataset.from_dict({"input_ids": [row.input_ids for row in rows], "labels": [row.labels for row in rows]})
