"""Supervised fine-tuning of an adapter on our own ids and labels, with TRL's trainer."""

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import PeftModel
from transformers import PreTrainedTokenizerBase, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from auterity_dagster.errors import Invalid
from auterity_dagster.neuroweaver.example import TrainingExample
from auterity_dagster.neuroweaver.recipe import Data, DpoStage, GrpoStage, SftStage
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
from auterity_dagster.training.likelihood import mean_log_probability
from auterity_dagster.training.quantised import quantization_of, wrong_gradients_are_errors
from auterity_dagster.training.run import StageResult, StageRun, peak_memory_bytes

TRAINED = "trained; measuring and storing the adapter"
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
    model = fresh_model(run, folder)
    arguments = sft_arguments(run)
    trainer = make_trainer(model, tokenizer, rows, arguments=arguments, callbacks=[callback := run.callback()])
    with wrong_gradients_are_errors():
        before = mean_log_probability(model, held_out, pad_id=padding)
        weights = trained_weights(model)
        checkpoint = run.resume_point()
        began = time.monotonic()
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint.path))
        loop_s = time.monotonic() - began
    callback.check_finished(trainer.state)
    run.progress.phase(TRAINED)
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
    steps = trainer.state.global_step - (0 if checkpoint is None else checkpoint.step)
    tokens = sum(len(row.input_ids) for row in rows) / len(rows) * steps * recipe.sft.rows_per_step
    metrics |= {"tokens_per_s": tokens / loop_s, "peak_memory_bytes": float(peak_memory_bytes())}
    return StageResult(
        digest=run.store.put_bundle(run.workdir.result),
        reason=f"held-out loss {-before:.3f} -> {-after:.3f} in {trainer.state.global_step} steps",
        metrics=metrics,
        facts={
            "quantization": quantization_of(model),
            "trainable": str(sum(t.numel() for t in weights.values())),
            "rows_a_step": shared_rows(arguments, run),
        },
        resumed_from_step=None if checkpoint is None else checkpoint.step,
    )


def fresh_model(run: StageRun, folder: Path) -> PeftModel:
    """Load the base and put a fresh adapter on it, its values decided by the recipe's seed."""
    recipe = run.spec.recipe
    base = load_for_training(
        folder, dtype=recipe.base.dtype, quantization=recipe.adapter.quantization, device=device_of(recipe)
    )
    return new_adapter(base, recipe.adapter)


def make_trainer(
    model: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[TokenisedChat],
    *,
    arguments: SFTConfig,
    callbacks: list[TrainerCallback],
) -> "TrainedTokensOnly":
    """Return the trainer of rows that are token ids and labels already; the adapter stays in float32."""
    trainer = TrainedTokensOnly(
        model=model,
        args=arguments,
        train_dataset=_dataset(rows),
        processing_class=tokenizer,
        callbacks=callbacks,
    )
    trainer.remove_callback(PrinterCallback)
    keep_full_precision(model)
    return trainer


def shared_rows(arguments: TrainingArguments, run: StageRun) -> str:
    """Say how the rows of a step are put through: `processes x batch x accumulation`."""
    batch, accumulate = arguments.per_device_train_batch_size, arguments.gradient_accumulation_steps
    halved = ", the batch halved for want of memory" if run.spec.halvings else ""
    return f"{run.worker.processes} x {batch} x {accumulate}{halved}"


class TrainedTokensOnly(SFTTrainer):
    """Scores trained positions only: without Triton, TRL's own loss puts every prompt token through the vocabulary."""

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Return the summed cross-entropy of the trained tokens over their number in the whole optimiser step.

        Several processes count their tokens together, and their gradients are averaged: each one's part is scaled up.
        """
        labels = inputs.pop("labels")[:, 1:]
        mask = labels != IGNORED
        head = self.accelerator.unwrap_model(model).get_base_model().lm_head
        # The network is called as the launcher wrapped it, so that gradients of several processes meet; its head sees
        # the trained positions only.
        hook = head.register_forward_pre_hook(lambda _, arguments: (arguments[0][:, :-1][mask],))
        try:
            logits = model(**inputs, use_cache=False).logits.float()
        finally:
            hook.remove()
        loss = torch.nn.functional.cross_entropy(logits, labels[mask], reduction="sum")
        total = mask.sum() if num_items_in_batch is None else num_items_in_batch
        loss = loss * self.accelerator.num_processes / total
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


def sft_arguments(run: StageRun) -> SFTConfig:
    """Return the trainer's settings: the recipe's numbers, and every default that belongs to a GPU spelled out."""
    stage = run.spec.recipe.sft
    return SFTConfig(
        **common_arguments(run, stage),
        num_train_epochs=stage.epochs or 3.0,
        lr_scheduler_type=stage.schedule,
        max_length=None,
        packing=False,
        dataset_kwargs={"skip_prepare_dataset": True},
    )


def common_arguments(run: StageRun, stage: SftStage | DpoStage | GrpoStage) -> dict[str, Any]:
    """Return what the trained stages share; the rows of a step stay the same however many processes share them."""
    recipe, sft = run.spec.recipe, run.spec.recipe.sft
    is_cpu = recipe.hardware.device_class.startswith("cpu")
    share = stage.per_process(processes=run.worker.processes, halvings=run.spec.halvings)
    return {
        "output_dir": str(run.trainer_folder),
        "seed": recipe.seed,
        "data_seed": recipe.seed,
        "use_cpu": is_cpu,
        "ddp_backend": "gloo" if is_cpu and run.worker.processes > 1 else None,
        "bf16": sft.autocast == "bfloat16",
        "activation_checkpointing": sft.activation_checkpointing,
        "optim": {"adamw": "adamw_torch", "paged_adamw_8bit": "paged_adamw_8bit"}[sft.optimizer],
        "max_steps": stage.steps or -1,
        "per_device_train_batch_size": share.batch,
        "gradient_accumulation_steps": share.accumulate,
        "learning_rate": stage.learning_rate,
        "warmup_steps": sft.warmup,
        "max_grad_norm": sft.clip,
        "save_strategy": "steps",
        "save_steps": stage.save_every,
        "save_total_limit": None,
        "logging_steps": 1,
        # The filter would replace a loss that is no number by the mean of those before it.
        "logging_nan_inf_filter": False,
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
