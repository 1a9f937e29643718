"""What is done after a training process ended: go on from its checkpoint, try with less memory, adopt, or give up."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from auterity_dagster.neuroweaver.stage import ExitCode, StageOutcome

DEATHS_ALLOWED = 2
"""How often in a row a process may die without a word and without a new checkpoint, and still be started again."""

STORE_RETRIES = 5
FIRST_WAIT_S = 2.0


class Then(StrEnum):
    """What the asset does next."""

    FINISH = "finish"
    AGAIN = "again"
    WITH_HALF_BATCH = "with_half_batch"
    ADOPT = "adopt"
    PAUSE = "pause"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Attempts:
    """What was tried so far in one run of the asset."""

    halvings: int = 0
    deaths: int = 0
    store_failures: int = 0


@dataclass(frozen=True, slots=True)
class Ended:
    """How one process ended. `outcome` is None when it wrote none, as a killed one; `has_progressed` tells of a new
    checkpoint since it began."""

    exit_code: int | None
    outcome: StageOutcome | None
    has_progressed: bool


@dataclass(frozen=True, slots=True)
class Decision:
    """What is done, why in words, and how long to wait first."""

    then: Then
    attempts: Attempts
    reason: str
    wait_s: float = 0.0


def decide(ended: Ended, attempts: Attempts, *, batch: int | None) -> Decision:
    """Return what follows from the way a process ended; `batch` is what the recipe's stage puts through at once.

    76 and the codes of wrong input are final: the same bytes would end the same way. A stage whose time is up waits
    for a person, with its checkpoint.
    """
    outcome = ended.outcome
    if outcome is None:
        return _without_outcome(ended, attempts)
    match outcome.code:
        case ExitCode.VERIFIED:
            return Decision(Then.FINISH, attempts, outcome.reason)
        case ExitCode.OUT_OF_MEMORY if attempts.halvings == 0 and batch is not None and batch % 2 == 0:
            halved = Attempts(halvings=1, deaths=attempts.deaths, store_failures=attempts.store_failures)
            return Decision(Then.WITH_HALF_BATCH, halved, f"{outcome.reason}: once more with half of the batch")
        case ExitCode.STORE_FAILED if attempts.store_failures < STORE_RETRIES:
            failures = attempts.store_failures + 1
            tried = Attempts(halvings=attempts.halvings, deaths=attempts.deaths, store_failures=failures)
            wait_s = FIRST_WAIT_S * 2 ** (failures - 1)
            return Decision(Then.AGAIN, tried, f"{outcome.reason} (retry {failures} of {STORE_RETRIES})", wait_s)
        case ExitCode.STOPPED if outcome.stopped_by == "cap":
            return Decision(Then.PAUSE, attempts, f"paused: {outcome.reason}; raise budget.cap_hours to go on")
        case ExitCode.STOPPED:
            return Decision(Then.AGAIN, attempts, outcome.reason)
        case _:
            return Decision(Then.FAIL, attempts, f"{outcome.reason} (exit code {outcome.code.value})")


def newest_is_new(before: Sequence[str], after: Sequence[str]) -> bool:
    """True if a checkpoint was added: names of checkpoints rise with their steps."""
    return bool(after) and (not before or after[-1] > before[-1])


def _without_outcome(ended: Ended, attempts: Attempts) -> Decision:
    if ended.exit_code == ExitCode.LOCKED:
        return Decision(Then.ADOPT, attempts, "another process trains this stage already")
    if ended.exit_code == ExitCode.SPEC_INVALID:
        return Decision(Then.FAIL, attempts, "the specification was refused: its reason is in the run's stderr")
    deaths = 0 if ended.has_progressed else attempts.deaths + 1
    tried = Attempts(halvings=attempts.halvings, deaths=deaths, store_failures=attempts.store_failures)
    if deaths > DEATHS_ALLOWED:
        return Decision(
            Then.FAIL, tried, f"ended {deaths} times in a row without a word and without a new checkpoint: see stderr"
        )
    return Decision(Then.AGAIN, tried, f"ended with {ended.exit_code} and no outcome")
