"""What a draft of a policy would have done with past requests: choices, cost and quality against what was in force."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, Literal
from uuid import UUID

from auterity_dagster.errors import AuterityError
from auterity_dagster.money import NanoUsd
from auterity_dagster.relaycore.catalog import CatalogSnapshot
from auterity_dagster.relaycore.chat import ChatRequest
from auterity_dagster.relaycore.decision_record import restored_catalog, restored_request
from auterity_dagster.relaycore.pricing import Price
from auterity_dagster.relaycore.steering import choose
from auterity_dagster.relaycore.steering_catalog import under_policy
from auterity_dagster.relaycore.steering_file import read_policy
from auterity_dagster.relaycore.steering_policy import SteeringPolicy

EXAMPLES = 20
EXAMPLES_A_CHANGE = 3

Contexts = Mapping[tuple[Literal["policy", "catalog"], str], Mapping[str, Any]]
"""Policies' texts and catalogue documents as stored, by kind and digest."""


@dataclass(frozen=True, slots=True)
class PastDecision:
    """A stored decision: its request's id, and what it was made from (`decision_record.inputs_document`)."""

    request_id: UUID
    inputs: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Chosen:
    """Where a policy sends a request: a deployment or, where it is refused, the error's code; by which rule.

    Cost and quality are what `choose` expects of the deployment, None where the request is refused.
    """

    choice: str
    rule: str | None
    cost_nusd: NanoUsd | None
    quality: float | None


@dataclass(frozen=True, slots=True)
class Example:
    """One request that goes elsewhere under the draft."""

    request_id: UUID
    task: str | None
    before: Chosen
    after: Chosen


@dataclass(frozen=True, slots=True)
class Replay:
    """The comparison. Cost and quality are summed and averaged over the `compared`: those that both policies answer.

    `changes` counts requests by the choice before and after; a refusal stands there as its code. `skipped` are stored
    decisions whose documents cannot be read any more.
    """

    replayed: int
    skipped: int
    compared: int
    changes: Mapping[tuple[str, str], int]
    cost_before_nusd: NanoUsd
    cost_after_nusd: NanoUsd
    quality_before: float | None
    quality_after: float | None
    examples: tuple[Example, ...]

    @property
    def changed(self) -> int:
        """How many requests go elsewhere."""
        return sum(self.changes.values())


@dataclass(slots=True)
class _Past:
    """Policies and catalogues of then, each read once, and each catalogue as the draft would have seen it."""

    draft: SteeringPolicy
    prices: Mapping[str, Price]
    contexts: Contexts
    policies: dict[str, SteeringPolicy] = field(default_factory=dict[str, SteeringPolicy])
    catalogs: dict[str, tuple[CatalogSnapshot, CatalogSnapshot]] = field(
        default_factory=dict[str, tuple[CatalogSnapshot, CatalogSnapshot]]
    )

    def policy(self, digest: str) -> SteeringPolicy:
        if digest not in self.policies:
            self.policies[digest] = read_policy(self.contexts["policy", digest]["yaml"], source=digest)
        return self.policies[digest]

    def catalog(self, digest: str) -> tuple[CatalogSnapshot, CatalogSnapshot]:
        if digest not in self.catalogs:
            then = restored_catalog(self.contexts["catalog", digest], digest=digest)
            self.catalogs[digest] = then, under_policy(then, self.draft, self.prices)
        return self.catalogs[digest]


def replay(
    draft: SteeringPolicy, past: Iterable[PastDecision], contexts: Contexts, *, prices: Mapping[str, Price]
) -> Replay:
    """Run a draft over stored decisions, and once more the policy that decided each: only the policy differs.

    `prices` serve the draft's deployments that had no price then.
    """
    known = _Past(draft, prices, contexts)
    pairs: list[Example] = []
    skipped = 0
    for one in past:
        try:
            policy, (then, under_draft) = known.policy(one.inputs["policy"]), known.catalog(one.inputs["catalog"])
        except (KeyError, AuterityError):
            skipped += 1
            continue
        request, snapshot = restored_request(one.inputs, then)
        _, snapshot_of_draft = restored_request(one.inputs, under_draft)
        before, after = _chosen(policy, request, snapshot), _chosen(draft, request, snapshot_of_draft)
        pairs.append(Example(one.request_id, request.task, before, after))
    return _compared(pairs, skipped=skipped)


def _chosen(policy: SteeringPolicy, request: ChatRequest, snapshot: CatalogSnapshot) -> Chosen:
    try:
        route = choose(policy, request, snapshot)
    except AuterityError as error:
        rule = error.details.get("rule")
        return Chosen(error.code, rule if isinstance(rule, str) else None, None, None)
    first = next(one for one in route.considered if one.place == 0)
    return Chosen(first.deployment_id, route.rule, first.expected_cost_nusd, first.quality_mean)


def _compared(pairs: list[Example], *, skipped: int) -> Replay:
    changed = [one for one in pairs if one.before.choice != one.after.choice]
    both = [one for one in pairs if one.before.cost_nusd is not None and one.after.cost_nusd is not None]
    return Replay(
        replayed=len(pairs),
        skipped=skipped,
        compared=len(both),
        changes=Counter((one.before.choice, one.after.choice) for one in changed),
        cost_before_nusd=sum(one.before.cost_nusd or 0 for one in both),
        cost_after_nusd=sum(one.after.cost_nusd or 0 for one in both),
        quality_before=fmean(one.before.quality or 0 for one in both) if both else None,
        quality_after=fmean(one.after.quality or 0 for one in both) if both else None,
        examples=_examples(changed),
    )


def _examples(changed: list[Example]) -> tuple[Example, ...]:
    """A few of each kind of change."""
    shown: Counter[tuple[str, str]] = Counter()
    found: list[Example] = []
    for one in changed:
        kind = (one.before.choice, one.after.choice)
        shown[kind] += 1
        if shown[kind] <= EXAMPLES_A_CHANGE:
            found.append(one)
    return tuple(found[:EXAMPLES])
