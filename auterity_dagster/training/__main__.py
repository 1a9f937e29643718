"""One stage, one process: `python -m auterity_dagster.training {base|sft|sample|dpo|bundle|generate} --spec FILE`."""

import argparse
import ctypes
import os
import signal
import sys
import time
from pathlib import Path

from pydantic import ValidationError

from auterity_dagster.neuroweaver.stage import ExitCode, Stage, StageSpec

_BEGAN = time.monotonic()
_OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TQDM_DISABLE": "1",
    # The servers beside us need the cores too: waiting threads sleep, they do not spin.
    "OMP_WAIT_POLICY": "PASSIVE",
}
_SET_PARENT_DEATH_SIGNAL = 1
_TRAINING = (Stage.PLAN, Stage.SFT, Stage.DPO, Stage.GRPO)


def main() -> int:
    """Read the specification, run its stage, and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m auterity_dagster.training")
    parser.add_argument("stage", choices=[stage.value for stage in Stage])
    parser.add_argument("--spec", type=Path, required=True)
    arguments = parser.parse_args()
    try:
        spec = StageSpec.model_validate_json(arguments.spec.read_bytes())
    except (OSError, ValidationError) as error:
        sys.stderr.write(f"{arguments.spec}: {error}\n")
        return ExitCode.SPEC_INVALID
    if spec.stage != arguments.stage:
        sys.stderr.write(f"{arguments.spec} is about the stage {spec.stage}, not {arguments.stage}\n")
        return ExitCode.SPEC_INVALID
    os.environ.update(_OFFLINE)
    _leave_out(spec)
    _end_with_parent()
    # Imported late: the libraries read the environment above when they are imported, and a wrong call should fail fast.
    from auterity_dagster.training.stages import run_stage

    return run_stage(spec, began=_BEGAN)


def _leave_out(spec: StageSpec) -> None:
    """Hide the library of 4-bit layers from a stage without any: PEFT imports it wherever it is installed.

    It brings torch's compiler along, a fifth of what a stage imports.
    """
    if spec.recipe.adapter.quantization is None or spec.stage not in _TRAINING:
        sys.modules["bitsandbytes"] = None  # type: ignore[assignment] -- how Python says that there is no such module


def _end_with_parent() -> None:
    """Ask Linux to send SIGTERM when the parent dies: nobody would read a result any more, the checkpoint stays."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
