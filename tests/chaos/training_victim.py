"""A training process that dies by SIGKILL at a chosen moment of its work with files.

It is forked from a server that has imported the libraries once: importing them takes longer than the training. This
module loads them late, because the test that starts it does not need them.
"""

import itertools
import os
import signal
import sys
import threading
import time
from pathlib import Path

from auterity_dagster.neuroweaver.stage import StageSpec

PRELOADED = ["tests.chaos.training_victim", "auterity_dagster.training.stages"]

os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "TQDM_DISABLE": "1"}

_TOUCHES = frozenset({"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir"})
_NOT_WORK = ("heartbeat", "lock")


def train(spec_json: str, *, kill_at: int | None, moment: str, remembers_rng: bool) -> None:
    """Run a stage; with `kill_at` die at that touch of a file of the stage's folder.

    Counted are touches of checkpoints ("save"), all others ("step"), or those after the first checkpoint ("sealed").
    """
    from transformers import Trainer

    from auterity_dagster.training.stages import run_stage

    spec = StageSpec.model_validate_json(spec_json)
    if not remembers_rng:
        # The broken variant: what was drawn before a kill is drawn again after it.
        setattr(Trainer, "_save_rng_state", lambda *_: None)  # noqa: B010
    sys.stderr = (spec.workdir.parent / "stderr").open("a")
    count, sealed = itertools.count(1), threading.Event()

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        if event not in _TOUCHES or not isinstance(arguments[0], str | os.PathLike):
            return
        path = Path(os.fspath(arguments[0]))
        if not path.is_relative_to(spec.workdir) or path.name.lstrip(".").startswith(_NOT_WORK):
            return
        is_save = any(part.startswith(("checkpoint-", "step-")) for part in path.parts)
        if is_save and event == "os.rename":
            sealed.set()
        is_counted = is_save if moment == "save" else not is_save and (moment == "step" or sealed.is_set())
        if is_counted and next(count) == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    if kill_at is not None:
        sys.addaudithook(watch)
    run_stage(spec, began=time.monotonic())
