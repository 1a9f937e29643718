"""Replay a version of a steering policy over what the organization's callers asked lately."""

import asyncio
from datetime import timedelta
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from auterity_dagster.relaycore.policy_replay import Chosen, Replay, replay
from auterity_dagster.serving.api.routers.steering_policies import CHANGE, VERSION, Number
from auterity_dagster.serving.api.state import State
from auterity_dagster.serving.api.steering import platform
from auterity_dagster.serving.api.whole_organization import require_whole_organization
from auterity_dagster.serving.authentication import CurrentPrincipal
from auterity_dagster.serving.declared_router import DeclaredRouter
from auterity_dagster.storage.repositories import audit, past_decisions, steering_policies
from auterity_dagster.storage.repositories.steering_policies import version_of

router = DeclaredRouter(tags=["Steering"])
BODY_LIMIT_BYTES = 1_024


class ReplayWrite(BaseModel):
    """Over which time, and over how many of its newest decisions at most."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    days: Annotated[int, Field(ge=1, le=90)] = 7
    limit: Annotated[int, Field(ge=1, le=10_000)] = 2_000


class ChoiceChangeRead(BaseModel):
    """How many requests go from one choice to another; a refusal stands there as its error code."""

    from_choice: str
    to_choice: str
    requests: int


class ChosenRead(BaseModel):
    """Where one policy sends a request, by which rule, and what is expected there."""

    choice: str
    rule: str | None
    cost_nusd: int | None
    quality: float | None


class ExampleRead(BaseModel):
    """One request that goes elsewhere; `GET /api/v1/requests/{id}` shows it in full."""

    request_id: UUID
    task: str | None
    before: ChosenRead
    after: ChosenRead


class ReplayRead(BaseModel):
    """What the version would have done, against the policies that decided.

    Cost and quality are what the choice expects, over the `compared` requests that both answer; `skipped` decisions
    could not be read any more.
    """

    replayed: int
    skipped: int
    compared: int
    changed: int
    changes: list[ChoiceChangeRead]
    cost_before_nusd: int
    cost_after_nusd: int
    quality_before: float | None
    quality_after: float | None
    examples: list[ExampleRead]


@router.post(VERSION + ":replay", **CHANGE | {"body_limit_bytes": BODY_LIMIT_BYTES, "problems": ()})
async def replay_version(
    state: State, principal: CurrentPrincipal, name: str, version: Number, write: ReplayWrite
) -> ReplayRead:
    """Run a version over stored decisions; the figures are kept in its reports. Nothing is called, nothing is paid."""
    require_whole_organization(principal)
    of_platform = await platform(state, principal.organization_id)
    since = state.clock.now().date() - timedelta(days=write.days - 1)
    async with state.database.begin(principal.organization_id) as session:
        row = await steering_policies.read_version(session, name, version)
        past = await past_decisions.past_decisions(session, since=since, limit=write.limit)
        contexts = await past_decisions.contexts_of(session, past)
    policy = await of_platform.checked(row.yaml, source=f"{name}@{version}", version=version)
    # In a thread: thousands of choices take seconds, and other requests must not wait for them.
    found = await asyncio.to_thread(replay, policy, past, contexts, prices=of_platform.prices)
    answer = _read(found)
    async with state.database.begin(principal.organization_id) as session:
        report = {"kind": "replay", "at": state.clock.now().isoformat(), "days": write.days}
        figures = answer.model_dump(mode="json", exclude={"examples"})
        await steering_policies.add_report(session, version_of(row), report | figures)
        await audit.append(
            session, actor=principal, action="steering.replayed", subject=version_of(row).subject,
            details={"days": write.days, "replayed": found.replayed, "changed": found.changed},
        )  # fmt: skip
    return answer


def _read(found: Replay) -> ReplayRead:
    return ReplayRead(
        replayed=found.replayed,
        skipped=found.skipped,
        compared=found.compared,
        changed=found.changed,
        changes=[
            ChoiceChangeRead(from_choice=before, to_choice=after, requests=count)
            for (before, after), count in sorted(found.changes.items(), key=lambda one: (-one[1], one[0]))
        ],
        cost_before_nusd=found.cost_before_nusd,
        cost_after_nusd=found.cost_after_nusd,
        quality_before=found.quality_before,
        quality_after=found.quality_after,
        examples=[
            ExampleRead(request_id=one.request_id, task=one.task, before=_chosen(one.before), after=_chosen(one.after))
            for one in found.examples
        ],
    )


def _chosen(chosen: Chosen) -> ChosenRead:
    return ChosenRead.model_validate(chosen, from_attributes=True)
