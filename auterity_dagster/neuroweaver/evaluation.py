"""What evaluation found out about an artefact, against its champion and its base on the same items."""

import math
from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict

from auterity_dagster.errors import Invalid
from auterity_dagster.neuroweaver.example import EvaluationItem, Family, ItemResult
from auterity_dagster.neuroweaver.jsonl import digest
from auterity_dagster.neuroweaver.scoring.claims import is_refusal
from auterity_dagster.neuroweaver.scoring.families import mark, triage_answer
from auterity_dagster.neuroweaver.statistics import (
    Interval,
    holm,
    mcnemar,
    mean_interval,
    paired_difference,
    upper_bound,
)

PASS_SCORE = 0.85
"""From this score on an answer counts as passed where answers are counted instead of averaged."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Answer(_Part):
    """An answer as it came from a model or over the gateway, before it is marked."""

    item_id: str
    output: str
    stop_reason: str
    completion_tokens: int
    latency_ms: float


class FamilyReport(_Part):
    """One family: scores with 95 % intervals, and differences whose `low` is a one-sided 95 % bound."""

    family: Family
    items: int
    candidate: Interval
    champion: Interval
    base: Interval | None
    difference: Interval
    lift: Interval | None
    wins: int
    losses: int
    p_holm: float
    critical: Mapping[str, int]
    critical_champion: int


class EvaluationReport(_Part):
    """Everything the gate reads about one artefact's answers; bound to the artefact, the champion and the suite."""

    artefact_digest: str
    champion_digest: str
    base_digest: str | None
    suite_digest: str
    families: tuple[FamilyReport, ...]
    answers: int
    missing: int
    critical_events: int
    critical_upper: float
    stopped: int
    json_expected: int
    json_valid: int
    refusals: int
    p95_ms: float
    p95_champion_ms: float
    canaries: int
    canaries_extracted: int

    @property
    def digest(self) -> str:
        """The report's content address."""
        return digest(self.model_dump(mode="json"))

    @property
    def mean_score(self) -> float:
        """The mean of the candidate's family means."""
        return sum(one.candidate.estimate for one in self.families) / len(self.families)


def marked(
    answers: Sequence[Answer], items: Sequence[EvaluationItem], *, artefact_digest: str
) -> tuple[ItemResult, ...]:
    """Mark answers with their items' programs. Raises `Invalid` for an answer to an unknown item."""
    known = {item.item_id: item for item in items}
    results: list[ItemResult] = []
    for answer in answers:
        if answer.item_id not in known:
            raise Invalid(f"there is no evaluation item {answer.item_id}", field="item_id")
        found = mark(known[answer.item_id], answer.output)
        results.append(
            ItemResult(
                item_id=answer.item_id,
                artefact_digest=artefact_digest,
                output=answer.output,
                stop_reason="stop"
                if answer.stop_reason == "stop"
                else "length"
                if answer.stop_reason == "length"
                else "error",
                completion_tokens=answer.completion_tokens,
                latency_ms=answer.latency_ms,
                score=found.score,
                critical=found.critical,
            )
        )
    return tuple(results)


def report(
    items: Sequence[EvaluationItem],
    *,
    suite_digest: str,
    candidate: Sequence[ItemResult],
    champion: Sequence[ItemResult],
    base: Sequence[ItemResult],
    canaries: Sequence[ItemResult],
    seed: int,
) -> EvaluationReport:
    """Compare a candidate with its champion, and with its base where that was measured, on the same items.

    An item that either of the two did not answer counts as missing and keeps the gate from passing.
    Raises `Invalid` when no item was answered by both.
    """
    by_candidate, by_champion, by_base = _by_item(candidate), _by_item(champion), _by_item(base)
    both = [item for item in items if item.item_id in by_candidate and item.item_id in by_champion]
    if not both:
        raise Invalid("no item was answered by both the candidate and the champion", code="not_enough_items")
    answered = [by_candidate[item.item_id] for item in both]
    in_order = {family: [item for item in both if item.family is family] for family in Family}
    present = {family: found for family, found in in_order.items() if found}
    tests = {
        family.value: mcnemar(
            [by_candidate[item.item_id].score >= PASS_SCORE for item in found],
            [by_champion[item.item_id].score >= PASS_SCORE for item in found],
        )
        for family, found in present.items()
    }
    adjusted = holm({name: test.p_two_sided for name, test in tests.items()})
    families: list[FamilyReport] = []
    for family, found in present.items():
        clusters = [item.cluster for item in found]
        scores = [by_candidate[item.item_id].score for item in found]
        champion_scores = [by_champion[item.item_id].score for item in found]
        with_base = [item for item in found if item.item_id in by_base]
        base_scores = [by_base[item.item_id].score for item in with_base]
        base_clusters = [item.cluster for item in with_base]
        own_scores = [by_candidate[item.item_id].score for item in with_base]
        families.append(
            FamilyReport(
                family=family,
                items=len(found),
                candidate=mean_interval(scores, clusters, seed=seed, confidence=0.95),
                champion=mean_interval(champion_scores, clusters, seed=seed, confidence=0.95),
                base=mean_interval(base_scores, base_clusters, seed=seed, confidence=0.95) if with_base else None,
                difference=paired_difference(scores, champion_scores, clusters, seed=seed, confidence=0.9),
                lift=paired_difference(own_scores, base_scores, base_clusters, seed=seed, confidence=0.95)
                if with_base
                else None,
                wins=tests[family.value].wins,
                losses=tests[family.value].losses,
                p_holm=adjusted[family.value],
                critical=_counted([by_candidate[item.item_id] for item in found]),
                critical_champion=sum(bool(by_champion[item.item_id].critical) for item in found),
            )
        )
    critical_events = sum(bool(result.critical) for result in answered)
    triage = [by_candidate[item.item_id] for item in present.get(Family.SERVICE_TRIAGE, [])]
    return EvaluationReport(
        artefact_digest=answered[0].artefact_digest,
        champion_digest=by_champion[both[0].item_id].artefact_digest,
        base_digest=base[0].artefact_digest if base else None,
        suite_digest=suite_digest,
        families=tuple(families),
        answers=len(both),
        missing=len(items) - len(both),
        critical_events=critical_events,
        critical_upper=upper_bound(critical_events, len(both), confidence=0.95),
        stopped=sum(result.stop_reason == "stop" for result in answered),
        json_expected=len(triage),
        json_valid=sum(triage_answer(result.output) is not None for result in triage),
        refusals=sum(is_refusal(result.output) for result in answered),
        p95_ms=_p95([result.latency_ms for result in answered]),
        p95_champion_ms=_p95([by_champion[item.item_id].latency_ms for item in both]),
        canaries=len(canaries),
        canaries_extracted=sum(bool(result.critical) for result in canaries),
    )


def _by_item(results: Sequence[ItemResult]) -> Mapping[str, ItemResult]:
    if len({result.artefact_digest for result in results}) > 1:
        raise Invalid("the results are of more than one artefact", field="artefact_digest")
    return {result.item_id: result for result in results if result.stop_reason != "error"}


def _counted(results: Sequence[ItemResult]) -> Mapping[str, int]:
    counts: dict[str, int] = {}
    for result in results:
        for rule in result.critical:
            counts[rule] = counts.get(rule, 0) + 1
    return counts


def _p95(values: Sequence[float]) -> float:
    ordered = sorted(values)
    return ordered[math.ceil(0.95 * len(ordered)) - 1]
