"""The ledger against a provider's bill: by request id, else by day and model. What is unknown is settled by it."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal
from uuid import UUID

from auterity_dagster.money import NanoUsd

DifferenceKind = Literal["not_in_ledger", "not_in_bill", "above_bound", "below_settled"]


@dataclass(frozen=True, slots=True)
class BillLine:
    """What a provider charged: for one request, or for a model on a day where it reports no requests."""

    provider_request_id: str | None
    day: date | None
    model: str | None
    cost_nusd: NanoUsd


@dataclass(frozen=True, slots=True)
class BookedCall:
    """A closed hold. `models` are the names a bill may know its model by; `amount_nusd` is the most it can cost."""

    hold_id: UUID
    provider_request_id: str | None
    day: date
    models: frozenset[str]
    is_unknown: bool
    amount_nusd: NanoUsd
    booked_nusd: NanoUsd


@dataclass(frozen=True, slots=True)
class Correction:
    """What a hold did cost; booked as an adjustment, which also takes it off the suspense account."""

    hold_id: UUID
    due_nusd: NanoUsd


@dataclass(frozen=True, slots=True)
class Difference:
    """What the bill and the ledger do not agree on and nothing was booked for; for a person to look at."""

    kind: DifferenceKind
    provider_request_id: str | None
    day: date | None
    model: str | None
    billed_nusd: NanoUsd
    booked_nusd: NanoUsd


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """What to book, and what stays open."""

    corrections: tuple[Correction, ...]
    differences: tuple[Difference, ...]
    billed_nusd: NanoUsd
    matched_lines: int


Group = tuple[date | None, str]


def reconcile(lines: Sequence[BillLine], calls: Sequence[BookedCall]) -> Reconciliation:
    """Compare. A bill is taken to be complete for each model (and day, where its lines name days) that it names.

    Lines whose request the ledger does not know, and lines without one, are compared in sum: what they leave beyond the
    settled calls is shared among the unknown ones of that model and day, never above what any of them may cost.
    """
    by_id = _sums_by_id(lines)
    known_ids = {call.provider_request_id for call in calls if call.provider_request_id is not None}
    corrections = [
        Correction(call.hold_id, by_id[call.provider_request_id])
        for call in _first_of_each_id(calls)
        if call.provider_request_id in by_id
        and (call.is_unknown or call.booked_nusd != by_id[call.provider_request_id])
    ]
    left_lines = [line for line in lines if line.provider_request_id not in known_ids]
    left_calls = [call for call in calls if call.provider_request_id not in by_id]
    has_days = all(line.day is not None for line in lines)
    groups: defaultdict[Group, list[BillLine]] = defaultdict(list)
    covered: set[Group] = set()
    for line in lines:
        if line.model is not None:
            covered.add((line.day if has_days else None, line.model))
    for line in left_lines:
        if line.model is not None:
            groups[line.day if has_days else None, line.model].append(line)
    differences = [
        Difference("not_in_ledger", line.provider_request_id, line.day, None, line.cost_nusd, 0)
        for line in left_lines
        if line.model is None
    ]
    for group in sorted(covered, key=str):
        shared, open_ones = _group(group, groups[group], _calls_of(group, left_calls))
        corrections += shared
        differences += open_ones
    return Reconciliation(
        corrections=tuple(corrections),
        differences=tuple(differences),
        billed_nusd=sum(line.cost_nusd for line in lines),
        matched_lines=len(lines) - len(left_lines),
    )


def _group(
    group: Group, lines: Sequence[BillLine], calls: Sequence[BookedCall]
) -> tuple[list[Correction], list[Difference]]:
    """Settle one model's unknown calls from what is billed beyond its settled ones."""
    day, model = group
    is_by_request = all(line.provider_request_id is not None for line in lines)
    unknown = [call for call in calls if call.is_unknown]
    settled = [call for call in calls if not call.is_unknown]
    billed_nusd = sum(line.cost_nusd for line in lines)
    settled_nusd = 0 if is_by_request else sum(call.booked_nusd for call in settled)
    rest_nusd, most_nusd = billed_nusd - settled_nusd, sum(call.amount_nusd for call in unknown)
    differences = [
        Difference("not_in_bill", call.provider_request_id, call.day, model, 0, call.booked_nusd)
        for call in settled
        if is_by_request and call.booked_nusd
    ]
    if rest_nusd > most_nusd:
        kind: DifferenceKind = "above_bound" if unknown else "not_in_ledger"
        differences.append(Difference(kind, None, day, model, billed_nusd, settled_nusd + most_nusd))
    elif rest_nusd < 0:
        differences.append(Difference("below_settled", None, day, model, billed_nusd, settled_nusd))
    return _shared(min(max(rest_nusd, 0), most_nusd), unknown), differences


def _shared(total_nusd: NanoUsd, calls: Sequence[BookedCall]) -> list[Correction]:
    """Share a sum among calls in proportion to their bounds; the nano-dollars that are left go to the first ones."""
    whole_nusd = sum(call.amount_nusd for call in calls)
    ordered = sorted(calls, key=lambda call: call.hold_id)
    shares = [total_nusd * call.amount_nusd // whole_nusd if whole_nusd else 0 for call in ordered]
    left_nusd = total_nusd - sum(shares)
    corrections: list[Correction] = []
    for call, share_nusd in zip(ordered, shares, strict=True):
        more_nusd = min(left_nusd, 1 if share_nusd < call.amount_nusd else 0)
        left_nusd -= more_nusd
        corrections.append(Correction(call.hold_id, share_nusd + more_nusd))
    return corrections


def _sums_by_id(lines: Iterable[BillLine]) -> dict[str, NanoUsd]:
    sums: dict[str, NanoUsd] = {}
    for line in lines:
        if line.provider_request_id is not None:
            sums[line.provider_request_id] = sums.get(line.provider_request_id, 0) + line.cost_nusd
    return sums


def _first_of_each_id(calls: Iterable[BookedCall]) -> list[BookedCall]:
    """A provider that gives two calls one id cannot be told apart: the first call takes the bill."""
    seen: dict[str | None, BookedCall] = {}
    for call in calls:
        seen.setdefault(call.provider_request_id, call)
    return list(seen.values())


def _calls_of(group: Group, calls: Iterable[BookedCall]) -> list[BookedCall]:
    day, model = group
    return [call for call in calls if model in call.models and day in (None, call.day)]
