"""An adapter that is trained further: loaded on its own base, shown to start where it ended, and measured again."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftModel
from transformers import PreTrainedTokenizerBase

from auterity_dagster.errors import Invalid
from auterity_dagster.neuroweaver.example import TrainingExample
from auterity_dagster.training.adapter import base_of, check_moved, load_adapter, save_adapter, trained_weights
from auterity_dagster.training.base_model import device_of, load_for_training, load_tokenizer
from auterity_dagster.training.chat_format import TokenisedChat, pad_id
from auterity_dagster.training.checkpoint import Checkpoint, StageCallback
from auterity_dagster.training.likelihood import mean_log_probability
from auterity_dagster.training.quantised import wrong_gradients_are_errors
from auterity_dagster.training.run import StageRun
from auterity_dagster.training.sft import REFERENCE_ROWS, TRAINED, tokenised

LOG_PROBABILITY_TOLERANCE = 2e-2


@dataclass(frozen=True, slots=True)
class Continued:
    """The adapter `sft` on its base, trainable; `examples` are the rows of `train`, the first of them tokenised."""

    model: PeftModel
    tokenizer: PreTrainedTokenizerBase
    examples: Sequence[TrainingExample]
    rows: Sequence[TokenisedChat]

    def log_probability(self) -> float:
        """Return the mean log-probability of the tokenised rows, by which a starting point is known."""
        return mean_log_probability(self.model, self.rows, pad_id=pad_id(self.tokenizer))

    def train(self, run: StageRun, trainer: Any, callback: StageCallback) -> tuple[float, Checkpoint | None]:
        """Train from the newest checkpoint, or from a start that is checked; return how likely the rows were then.

        Raises `Invalid` for a wrong start, `NotLearned` for weights that stayed.
        """
        with wrong_gradients_are_errors():
            found = self.log_probability()
            check_start(found, expected=run.spec.expected["reference_log_probability"])
            weights = trained_weights(self.model)
            checkpoint = run.resume_point()
            trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint.path))
        callback.check_finished(trainer.state)
        run.progress.phase(TRAINED)
        check_moved(weights, self.model)
        return found, checkpoint

    def save(self, run: StageRun) -> float:
        """Write the adapter as the stage's result; return how likely it finds the rows now."""
        after = self.log_probability()
        save_adapter(
            self.model, self.tokenizer, run.workdir.result, base_digest=run.digest("base"), dtype=torch.float32
        )
        return after


def load_continued(run: StageRun) -> Continued:
    """Load the adapter on its base. Raises `Invalid` where it was trained on another one."""
    recipe, adapter = run.spec.recipe, run.checkout("sft")
    if base_of(adapter) != run.digest("base"):
        raise Invalid("the adapter was trained on another base", code="base_mismatch")
    folder = run.checkout("base")
    tokenizer = load_tokenizer(folder)
    examples = run.rows("train", TrainingExample)
    rows = tokenised(tokenizer, examples, recipe.data)[:REFERENCE_ROWS]
    run.progress.phase("loading the base and the adapter")
    base = load_for_training(
        folder, dtype=recipe.base.dtype, quantization=recipe.adapter.quantization, device=device_of(recipe)
    )
    return Continued(load_adapter(base, adapter, is_trainable=True), tokenizer, examples, rows)


def check_start(found: float, *, expected: float) -> None:
    """Raise `Invalid` unless the model finds the SFT rows as likely as the SFT stage did.

    Margins of 0 do not show it: the bare base compared with itself has those too.
    """
    if abs(found - expected) > LOG_PROBABILITY_TOLERANCE:
        raise Invalid(
            f"mean log-probability of {REFERENCE_ROWS} rows is {found:.4f}, the SFT adapter had {expected:.4f}",
            code="wrong_start",
        )
