"""From a stage's name to its code, and from what went wrong to the exit code that the asset acts on."""

import sys
import traceback
from collections.abc import Callable
from typing import Literal

import torch

from auterity_dagster.errors import AuterityError, Conflict, Invalid, NotFound
from auterity_dagster.neuroweaver.stage import ExitCode, Stage, StageOutcome, StageSpec
from auterity_dagster.storage.object_store import ObjectStore
from auterity_dagster.storage.workdir import Workdir
from auterity_dagster.training.adapter import NotLearned
from auterity_dagster.training.base_model import store_base
from auterity_dagster.training.checkpoint import StopRequest, TrainingStopped
from auterity_dagster.training.progress import Progress
from auterity_dagster.training.run import StageResult, StageRun
from auterity_dagster.training.workers import this_worker

_INPUT_CODES = {"digest_mismatch", "unsafe_bundle", "base_mismatch"}


def run_stage(spec: StageSpec, *, began: float) -> ExitCode:
    """Run one stage in its folder; the outcome file is there before this returns, unless another process holds it.

    `began` is when this process did, on the monotonic clock: what imports take is paid for too.
    """
    worker = this_worker()
    folder = spec.workdir if worker.is_first else spec.workdir / f"rank-{worker.rank}"
    workdir = Workdir(folder, began=began)
    stop = StopRequest()
    stop.listen()
    store = ObjectStore(spec.store)
    try:
        with workdir.held(), Progress(workdir, stage=spec.stage, is_told=worker.is_first) as progress:
            workdir.forget_outcome()
            run = StageRun(spec=spec, workdir=workdir, store=store, progress=progress, stop=stop, worker=worker)
            outcome = execute(run)
            workdir.finish(outcome)
            progress.ended(outcome.model_dump(mode="json"))
    except Conflict as error:
        sys.stderr.write(f"{error.message}\n")
        return ExitCode.LOCKED
    return outcome.code


def execute(run: StageRun) -> StageOutcome:
    """Run a stage's code and say how it ended; nothing that is foreseen escapes."""
    try:
        run.prepare()
        result = _code_of(run.spec.stage)(run)
    except TrainingStopped as stopped:
        return _failed(run, ExitCode.STOPPED, str(stopped), stopped_by=stopped.by)
    except NotLearned as error:
        return _failed(run, ExitCode.NOT_LEARNED, str(error))
    except UserWarning as warning:
        return _failed(run, ExitCode.NOT_LEARNED, f"gradients would be wrong: {warning}")
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return _failed(run, ExitCode.OUT_OF_MEMORY, f"out of memory: {error}")
    except NotFound as error:
        return _failed(run, ExitCode.INPUT_CHANGED, error.message)
    except Invalid as error:
        code = ExitCode.INPUT_CHANGED if error.code in _INPUT_CODES else ExitCode.DATA_INVALID
        return _failed(run, code, error.message)
    except AuterityError as error:
        return _failed(run, ExitCode.DATA_INVALID, error.message)
    except OSError as error:
        traceback.print_exc()
        return _failed(run, ExitCode.STORE_FAILED, f"disk or store: {error}")
    return StageOutcome(
        code=ExitCode.VERIFIED,
        reason=result.reason,
        digest=result.digest,
        metrics=result.metrics,
        facts=result.facts,
        resumed_from_step=result.resumed_from_step,
        elapsed_s=run.workdir.elapsed_s,
    )


def is_out_of_memory(error: RuntimeError | MemoryError) -> bool:
    """True for an allocation that failed; on a CPU torch says so in words only."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


def _failed(
    run: StageRun, code: ExitCode, reason: str, *, stopped_by: Literal["signal", "cap"] | None = None
) -> StageOutcome:
    return StageOutcome(code=code, reason=reason, elapsed_s=run.workdir.elapsed_s, stopped_by=stopped_by)


def _store_base(run: StageRun) -> StageResult:
    recipe = run.spec.recipe
    run.progress.phase(f"reading {recipe.base.source}")
    digest, is_reused = store_base(recipe, run.store)
    return StageResult(
        digest=digest,
        reason="the conversion of an earlier run is reused" if is_reused else "converted to safetensors",
        metrics={},
        facts={"quantised_origin": recipe.base.quantised_origin or "none", "licence": recipe.base.licence},
    )


def _code_of(stage: Stage) -> Callable[[StageRun], StageResult]:
    # Imported late: the trainers take seconds to import, and most stages train nothing.
    match stage:
        case Stage.BASE:
            return _store_base
        case Stage.SAMPLE | Stage.GENERATE:
            from auterity_dagster.training.generation import answer

            return answer
        case Stage.BUNDLE:
            from auterity_dagster.training.bundle import bundle

            return bundle
        case Stage.PLAN:
            from auterity_dagster.training.plan import plan

            return plan
        case Stage.SFT:
            from auterity_dagster.training import sft

            return sft.train
        case Stage.DPO:
            from auterity_dagster.training import dpo

            return dpo.train
        case Stage.GRPO:
            from auterity_dagster.training import grpo

            return grpo.train
