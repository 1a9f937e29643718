"""Before money is spent: every row's mask is checked, the longest rows are put through, a few steps are timed."""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from auterity_dagster.neuroweaver.estimate import probed_steps, steps_of
from auterity_dagster.neuroweaver.example import TrainingExample
from auterity_dagster.neuroweaver.jsonl import canonical_json
from auterity_dagster.neuroweaver.recipe import DpoStage, SftStage
from auterity_dagster.neuroweaver.stage import PairLine, Stage
from auterity_dagster.training import dpo, sft
from auterity_dagster.training.base_model import load_tokenizer
from auterity_dagster.training.chat_format import TokenisedChat
from auterity_dagster.training.quantised import wrong_gradients_are_errors
from auterity_dagster.training.run import StageResult, StageRun


def plan(run: StageRun) -> StageResult:
    """Tokenise all rows and time throwaway steps of the stages that the recipe trains; no weight of them is kept.

    A longest batch that does not fit into memory ends here (71), before anything was trained.
    """
    recipe = run.spec.recipe
    folder = run.checkout("base")
    tokenizer = load_tokenizer(folder)
    examples = run.rows("train", TrainingExample)
    rows = sft.tokenised(tokenizer, examples, recipe.data)
    run.progress.phase("loading the base")
    model = sft.fresh_model(run, folder)
    fixed_s = run.workdir.elapsed_s
    metrics = {
        "rows": float(len(rows)),
        "dropped_rows": float(len(examples) - len(rows)),
        "trained_tokens": float(sum(row.trained_tokens for row in rows)),
        "longest_row": float(max(len(row.input_ids) for row in rows)),
        "fixed_s": fixed_s,
    }
    probed = _with_steps(run, Stage.SFT, probed_steps(steps_of(recipe, Stage.SFT, rows=len(rows))))
    timer = StepTimer()
    trainer = sft.make_trainer(model, tokenizer, rows, arguments=sft.sft_arguments(probed), callbacks=[timer])
    run.progress.phase("timing steps of sft")
    with wrong_gradients_are_errors():
        metrics["longest_batch_s"] = _longest_batch(
            trainer, rows, recipe.sft.per_process(processes=run.worker.processes, halvings=run.spec.halvings).batch
        )
        trainer.train()
    metrics |= timer.metrics(Stage.SFT, steps=steps_of(recipe, Stage.SFT, rows=len(rows)))
    if recipe.dpo is not None and recipe.preferences is not None:
        pairs = dpo.rendered(tokenizer, _stand_in_pairs(examples))
        # As many pairs as prompts is what a batch of judging yields at best.
        steps = steps_of(recipe, Stage.DPO, rows=recipe.preferences.prompts)
        probed, timer = _with_steps(run, Stage.DPO, probed_steps(steps)), StepTimer()
        assert probed.spec.recipe.dpo is not None
        arguments = dpo.dpo_arguments(probed, probed.spec.recipe.dpo)
        chooser = dpo.make_trainer(model, tokenizer, pairs, arguments=arguments, callbacks=[timer])
        run.progress.phase("timing steps of dpo")
        with wrong_gradients_are_errors():
            chooser.train()
        metrics |= timer.metrics(Stage.DPO, steps=steps)
    return StageResult(
        digest=run.store.put_bytes(canonical_json(metrics).encode()),
        reason=f"{len(rows)} rows are sound, a step of sft takes {metrics['sft_step_0_s']:.2f} s",
        metrics=metrics,
        facts={"dtype": recipe.base.dtype},
    )


class StepTimer(TrainerCallback):
    """Times every step but the first, which warms up, and keeps the trainer from saving."""

    def __init__(self) -> None:
        self._began = 0.0
        self._seconds: list[float] = []

    def metrics(self, stage: Stage, *, steps: int) -> dict[str, float]:
        """Return the seconds of the timed steps and how many steps the stage will have."""
        timed = self._seconds[1:] or self._seconds
        named = {f"{stage}_step_{number}_s": seconds for number, seconds in enumerate(timed)}
        return named | {f"{stage}_probed": float(len(timed)), f"{stage}_steps": float(steps)}

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._began = time.monotonic()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._seconds.append(time.monotonic() - self._began)
        control.should_save = False


def _with_steps(run: StageRun, stage: Stage, steps: int) -> StageRun:
    """Return the run with a stage of so many timed steps and the one that warms up."""
    recipe = run.spec.recipe
    block: SftStage | DpoStage | None = recipe.sft if stage is Stage.SFT else recipe.dpo
    assert block is not None
    short = block.model_copy(update={"steps": steps + 1, "epochs": None})
    changed = recipe.model_copy(update={stage.value: short})
    return replace(run, spec=run.spec.model_copy(update={"recipe": changed}))


def _longest_batch(trainer: sft.TrainedTokensOnly, rows: Sequence[TokenisedChat], batch: int) -> float:
    """Put the longest rows through, forward and backward, and return the seconds; their gradients are dropped."""
    longest = sorted(rows, key=lambda row: len(row.input_ids), reverse=True)[:batch]
    collated = trainer.data_collator([{"input_ids": row.input_ids, "labels": row.labels} for row in longest])
    began = time.monotonic()
    model: Any = trainer.model
    device = next(model.parameters()).device
    with trainer.compute_loss_context_manager():
        loss = trainer.compute_loss(model, {name: tensor.to(device) for name, tensor in collated.items()})
    torch.autograd.backward(loss)
    model.zero_grad(set_to_none=True)
    return time.monotonic() - began


def _stand_in_pairs(examples: Sequence[TrainingExample]) -> list[PairLine]:
    """Return pairs of the right length before there are any: a row's answer against the next row's."""
    following = [*examples[1:], examples[0]]
    return [
        PairLine(id=row.example_id, messages=row.prompt, chosen=row.answer, rejected=other.answer)
        for row, other in zip(examples, following, strict=True)
    ]
