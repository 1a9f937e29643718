"""Pure checkers: a history and samples in, a verdict out. They know nothing of how the figures came about.

Use them with whatever drives the ledger: sample with `ledger_samples.LEDGER_SAMPLE`, read the provider's bill, judge.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Verdict:
    """`reasons` is empty when the promise held; `numbers` go into the report either way."""

    promise: str
    reasons: tuple[str, ...]
    numbers: Mapping[str, int]

    @property
    def is_held(self) -> bool:
        return not self.reasons


@dataclass(frozen=True, slots=True)
class LedgerSample:
    """One consistent look: the most any hard window is over its cap, overage booked, and the sum of all entries."""

    max_over_nusd: int
    overage_nusd: int
    entries_sum_nusd: int
    held_nusd: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one call: `admitted`, `refused`, or `failed` when nobody could say."""

    call: str
    phase: str


def budgets_are_exact(samples: Sequence[LedgerSample]) -> Verdict:
    """P-1: at no sample is a hard budget exceeded by a single nano-dollar, and the entries always sum to zero."""
    over = max((sample.max_over_nusd for sample in samples), default=0)
    overage = max((sample.overage_nusd for sample in samples), default=0)
    sums = {sample.entries_sum_nusd for sample in samples} - {0}
    reasons: list[str] = []
    if not samples:
        reasons.append("nothing was sampled")
    if over > 0:
        reasons.append(f"a budget was exceeded by {over} nano-dollars")
    if overage:
        reasons.append(f"{overage} nano-dollars of overage were booked")
    if sums:
        reasons.append(f"the entries summed to {sorted(sums)}")
    return Verdict("P-1", tuple(reasons), {"samples": len(samples), "max_over_nusd": over})


def both_were_tried(outcomes: Iterable[Outcome], *, at_least: int) -> Verdict:
    """A run proves something only if many calls were admitted and many refused."""
    phases = [outcome.phase for outcome in outcomes]
    numbers = {phase: phases.count(phase) for phase in ("admitted", "refused", "failed")}
    reasons = [f"only {numbers[phase]} calls {phase}" for phase in ("admitted", "refused") if numbers[phase] < at_least]
    return Verdict("P-1", tuple(reasons), numbers)


def ledger_covers_bill(*, bill_nusd: int, spend_nusd: int, suspense_nusd: int, is_settled: bool) -> Verdict:
    """P-2: the ledger is never below the provider's bill; it is equal once nothing stands on the suspense account."""
    booked = spend_nusd + suspense_nusd
    numbers = {"bill_nusd": bill_nusd, "spend_nusd": spend_nusd, "suspense_nusd": suspense_nusd}
    reasons: list[str] = []
    if booked < bill_nusd:
        reasons.append(f"the provider billed {bill_nusd - booked} nano-dollars that are not booked")
    if is_settled and spend_nusd != bill_nusd:
        reasons.append(f"settled {spend_nusd}, billed {bill_nusd}")
    return Verdict("P-2", tuple(reasons), numbers)


def no_phantom_holds(last: LedgerSample) -> Verdict:
    """P-3: after the holds of dead processes have expired, nothing is held any more."""
    reasons = (f"{last.held_nusd} nano-dollars are still held",) if last.held_nusd else ()
    return Verdict("P-3", reasons, {"held_nusd": last.held_nusd})


@dataclass(frozen=True, slots=True)
class BilledSample:
    """The provider's bill at one moment, and what the ledger reckoned with a moment later."""

    billed_nusd: int
    booked_nusd: int


def never_below_the_bill(samples: Sequence[BilledSample], *, is_reconciled: bool = False) -> Verdict:
    """P-2: at no sample is the ledger below the bill; once the bill is reconciled it is equal to it."""
    missing = max((one.billed_nusd - one.booked_nusd for one in samples), default=0)
    reasons: list[str] = []
    if not samples:
        reasons.append("nothing was sampled")
    if missing > 0:
        reasons.append(f"{missing} nano-dollars were billed and are not in the ledger")
    if is_reconciled and missing < 0:
        reasons.append(f"{-missing} nano-dollars are in the ledger and were not billed")
    return Verdict("P-2", tuple(reasons), {"samples": len(samples), "max_missing_nusd": missing})


def once_per_provider_request(
    paid_for: Sequence[str | None], *, lines: int, suspense_nusd: int, unexplained: int
) -> Verdict:
    """P-2: `paid_for` names the provider's request of each hold that was not voided; None where no answer came.

    No request is paid for twice, no billed one has no hold, and nothing stays open.
    """
    named = [one for one in paid_for if one is not None]
    reasons: list[str] = []
    if len(set(named)) != len(named):
        reasons.append(f"{len(named) - len(set(named))} requests were paid for twice")
    if len(paid_for) < lines:
        reasons.append(f"{len(paid_for)} holds for {lines} billed requests")
    if suspense_nusd:
        reasons.append(f"{suspense_nusd} nano-dollars stay on the suspense account")
    if unexplained:
        reasons.append(f"{unexplained} differences stay unexplained")
    return Verdict("P-2", tuple(reasons), {"holds": len(paid_for), "lines": lines})


def one_answer_a_key(bodies: Mapping[str, Iterable[bytes]], *, lines: int, is_every_key_answered: bool) -> Verdict:
    """P-5: whoever got an answer under a key got the same bytes, and the provider was called once a key at most."""
    different = [key for key, answers in bodies.items() if len(set(answers)) > 1]
    silent = [key for key, answers in bodies.items() if not list(answers)]
    reasons: list[str] = []
    if different:
        reasons.append(f"{len(different)} keys got different bytes")
    if lines > len(bodies):
        reasons.append(f"{lines} provider calls for {len(bodies)} keys")
    if is_every_key_answered and silent:
        reasons.append(f"{len(silent)} keys got no answer")
    return Verdict("P-5", tuple(reasons), {"keys": len(bodies), "provider_calls": lines})
