"""Direct preference optimisation on top of the SFT adapter, checked at step 0 to start exactly there."""

from collections.abc import Sequence
from typing import Any

from datasets import Dataset
from peft import PeftModel
from transformers import PreTrainedTokenizerBase, TrainerCallback
from transformers.trainer_callback import PrinterCallback
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer

from auterity_dagster.errors import Invalid
from auterity_dagster.neuroweaver.recipe import DpoStage
from auterity_dagster.neuroweaver.stage import PairLine
from auterity_dagster.training.adapter import start_from_reference
from auterity_dagster.training.chat_format import STOP, render_prompt
from auterity_dagster.training.continuing import load_continued
from auterity_dagster.training.quantised import quantization_of
from auterity_dagster.training.run import StageResult, StageRun
from auterity_dagster.training.sft import check_losses, common_arguments, shared_rows

MARGIN_TOLERANCE = 1e-4


def train(run: StageRun) -> StageResult:
    """Train the adapter `sft` further on `pairs`; the trainer keeps a frozen copy of it as the reference."""
    recipe, stage = run.spec.recipe, run.spec.recipe.dpo
    if stage is None:
        raise Invalid(f"recipe {recipe.recipe} has no dpo stage", field="recipe.dpo")
    start = load_continued(run)
    model = start.model
    pairs = rendered(start.tokenizer, run.rows("pairs", PairLine))
    arguments = dpo_arguments(run, stage)
    callback = run.callback()
    trainer = make_trainer(model, start.tokenizer, pairs, arguments=arguments, callbacks=[callback])
    found, checkpoint = start.train(run, trainer, callback)
    metrics = check_losses(trainer.state.log_history) | margins(trainer.state.log_history)
    if checkpoint is None and abs(metrics["first_margin"]) > MARGIN_TOLERANCE:
        raise Invalid(f"the first margin is {metrics['first_margin']:.2e}: not the SFT adapter", code="wrong_start")
    after = start.save(run)
    metrics |= {"pairs": float(len(pairs)), "start_log_probability": found, "end_log_probability": after}
    return StageResult(
        digest=run.store.put_bundle(run.workdir.result),
        reason=f"margin 0 -> {metrics['last_margin']:.3f} in {trainer.state.global_step} steps on {len(pairs)} pairs",
        metrics=metrics,
        facts={"quantization": quantization_of(model), "rows_a_step": shared_rows(arguments, run)},
        resumed_from_step=None if checkpoint is None else checkpoint.step,
    )


def make_trainer(
    model: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[dict[str, str]],
    *,
    arguments: DPOConfig,
    callbacks: list[TrainerCallback],
) -> DPOTrainer:
    """Return the trainer, its trained adapter equal to the frozen copy that is its reference."""
    trainer = DPOTrainer(
        model=model,
        ref_model=None,
        args=arguments,
        train_dataset=Dataset.from_list(list(pairs)),
        processing_class=tokenizer,
        callbacks=callbacks,
    )
    trainer.remove_callback(PrinterCallback)
    start_from_reference(model)
    return trainer


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


def dpo_arguments(run: StageRun, stage: DpoStage) -> DPOConfig:
    """Return the trainer's settings; the reference is never computed beforehand, which would repack 4-bit weights."""
    return DPOConfig(
        **common_arguments(run, stage),
        num_train_epochs=stage.epochs or 1.0,
        beta=stage.beta,
        loss_type=["sigmoid", "sft"],
        loss_weights=[stage.losses.sigmoid, stage.losses.sft],
        max_length=None,
        precompute_ref_log_probs=False,
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
