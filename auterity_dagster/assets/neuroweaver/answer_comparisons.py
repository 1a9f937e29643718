"""What shadows answered, judged against what was served: the rows that a challenger rises or goes by."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import dagster as dg

from auterity_dagster.assets.checks import checked
from auterity_dagster.clock import SystemClock
from auterity_dagster.errors import AuterityError, BudgetExceeded, Invalid, NotFound
from auterity_dagster.money import in_usd
from auterity_dagster.neuroweaver.example import PreferencePair
from auterity_dagster.neuroweaver.judge_canaries import judge_canaries, missed
from auterity_dagster.neuroweaver.judging import Comparison, Rubric, compare, load_rubric
from auterity_dagster.neuroweaver.shadow_comparison import (
    PROGRAMS,
    Outcome,
    comparison_of,
    good_answer,
    is_equal,
    outcome_of,
)
from auterity_dagster.neuroweaver.switching import ServingState
from auterity_dagster.resources.database import DatabaseResource
from auterity_dagster.resources.installation import InstallationResource
from auterity_dagster.resources.judging_gateway import JudgingGateway
from auterity_dagster.storage.database import BlockingDatabase
from auterity_dagster.storage.repositories import observations, serving_state, shadow_texts
from auterity_dagster.storage.repositories.retrain_requests import organizations_with_serving

GROUP = "neuroweaver_shadow"
RUBRIC = "dealership-1"
PAIRS_A_LOOK = 100
UNREADABLE = "judge_answer_invalid"
_JUDGES = 8


@dataclass
class Looked:
    """What one look came to."""

    compared: int = 0
    unread: int = 0
    cost_nusd: int = 0
    fooled: tuple[str, ...] = ()
    stopped: str = ""


@dg.asset(
    group_name=GROUP,
    kinds={"openai", "postgres"},
    check_specs=[dg.AssetCheckSpec(name, asset="answer_comparisons") for name in ("judge_canaries", "within_budget")],
)
def answer_comparisons(
    context: dg.AssetExecutionContext, installation: InstallationResource, database: DatabaseResource
) -> dg.MaterializeResult:
    """Each waiting pair of a challenger in the shadow, judged once: programs first, then a judge in both orders."""
    rubric = load_rubric(Path(installation.config_dir) / "rubrics" / f"{RUBRIC}.yaml")
    looks: dict[str, Looked] = {}
    with database.connected() as connected:
        with connected.begin_without_organization() as session:
            organizations = organizations_with_serving(session)
        for organization_id in organizations:
            for state in challengers_in_shadow(connected, organization_id):
                found = _look(connected, installation, organization_id, state, rubric)
                looks[f"{organization_id}/{state.scope}"] = found
                context.log.info(f"{state.scope}: {found}")
    return dg.MaterializeResult(
        metadata={
            "compared": sum(one.compared for one in looks.values()),
            "unread": sum(one.unread for one in looks.values()),
            "cost_usd": in_usd(sum(one.cost_nusd for one in looks.values())),
        },
        check_results=[
            checked("judge_canaries", not any(one.fooled for one in looks.values()), looks=looks),
            checked("within_budget", not any(one.stopped for one in looks.values()), looks=looks),
        ],
    )


def challengers_in_shadow(database: BlockingDatabase, organization_id: UUID) -> Sequence[ServingState]:
    """Return the scopes whose challenger answers unseen; texts that are for none of them are deleted."""
    with database.begin(organization_id) as session:
        states = [
            one
            for one in serving_state.scopes(session)
            if one.challenger_digest is not None and not one.challenger_percent
        ]
        digests = [one.challenger_digest or "" for one in states]
        shadow_texts.forget_others(session, shadow_artefact_digests=digests, now=SystemClock().now())
    return states


def _look(
    database: BlockingDatabase,
    installation: InstallationResource,
    organization_id: UUID,
    state: ServingState,
    rubric: Rubric,
) -> Looked:
    """Judge what waits for one scope; a judge that falls for canaries, or has no money left, leaves it waiting."""
    with database.begin(organization_id) as session:
        waiting = shadow_texts.waiting_pairs(
            session,
            shadow_artefact_digest=state.challenger_digest or "",
            pepper=installation.pepper,
            limit=PAIRS_A_LOOK,
        )
    asked: dict[UUID, tuple[UUID, Comparison]] = {}
    for one in waiting:
        is_champions = state.current_digest in (None, one.served_artefact_digest)
        found = comparison_of(one.task, one.messages, champion=one.served, challenger=one.shadow)
        if found is not None and is_champions:
            asked[one.shadow_request_id] = (one.request_id, found)
    looked = Looked(unread=len(waiting) - len(asked))
    _forget(database, organization_id, [one.shadow_request_id for one in waiting if one.shadow_request_id not in asked])
    try:
        gateway = JudgingGateway(
            database,
            organization_id=organization_id,
            gateway_url=installation.gateway_url,
            pepper=installation.pepper,
        )
    except NotFound as error:
        looked.stopped = error.message
        return looked
    with ThreadPoolExecutor(_JUDGES) as pool:
        try:
            _judge(database, organization_id, state, asked, _Judging(gateway, rubric, pool), looked)
        except AuterityError as error:
            looked.stopped = error.message
            if not isinstance(error, BudgetExceeded):
                raise dg.Failure(f"judging stopped: {error.message}") from error
        finally:
            gateway.close()
    return looked


@dataclass(frozen=True)
class _Judging:
    gateway: JudgingGateway
    rubric: Rubric
    pool: ThreadPoolExecutor

    def judged(self, comparison: Comparison) -> PreferencePair:
        return compare(comparison, judge=self.gateway, rubric=self.rubric)


def _judge(
    database: BlockingDatabase,
    organization_id: UUID,
    state: ServingState,
    asked: dict[UUID, tuple[UUID, Comparison]],
    judging: _Judging,
    looked: Looked,
) -> None:
    planted = judge_canaries([good_answer(one) for _, one in asked.values() if not is_equal(one)], compared=len(asked))
    known = list(judging.pool.map(judging.judged, [canary.comparison for canary in planted]))
    looked.cost_nusd += sum(vote.cost_nusd for pair in known for vote in pair.votes)
    looked.fooled = missed(planted, known)
    if looked.fooled:
        return

    def outcome(one: Comparison) -> tuple[Outcome, int]:
        if is_equal(one):
            return Outcome("tie", PROGRAMS), 0
        try:
            pair = judging.judged(one)
        except Invalid as error:
            if error.code != UNREADABLE:
                raise
            # Asked again it would say the same: it decides nothing, and must not keep the others waiting.
            return Outcome("tie", UNREADABLE), 0
        return outcome_of(one, pair), sum(vote.cost_nusd for vote in pair.votes)

    outcomes = judging.pool.map(outcome, [comparison for _, comparison in asked.values()])
    for (shadow_request_id, (request_id, _)), (found, cost_nusd) in zip(asked.items(), outcomes, strict=True):
        # One transaction for each: what was judged and paid for stays when a later one fails.
        with database.begin(organization_id) as session:
            observations.record_pair(
                session,
                organization_id=organization_id,
                scope=state.scope,
                request_id=request_id,
                champion_digest=state.current_digest,
                challenger_digest=state.challenger_digest or "",
                winner=found.winner,
                decided_by=found.decided_by,
            )
            shadow_texts.forget(session, [shadow_request_id])
        looked.compared += 1
        looked.cost_nusd += cost_nusd


def _forget(database: BlockingDatabase, organization_id: UUID, shadow_request_ids: Sequence[UUID]) -> None:
    if shadow_request_ids:
        with database.begin(organization_id) as session:
            shadow_texts.forget(session, shadow_request_ids)
