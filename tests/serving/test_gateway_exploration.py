"""Exploration at run time: tried for the rule's own money, logged with its chance, given up when that is used up."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select

from auterity_dagster.relaycore.chat import Caller, ChatRequest
from auterity_dagster.relaycore.decision_record import restored, told
from auterity_dagster.relaycore.gateway import Gateway
from auterity_dagster.relaycore.sampling import drawn
from auterity_dagster.relaycore.steering import choose
from auterity_dagster.relaycore.steering_file import read_policy
from auterity_dagster.serving.relaycore.app import OpenLedger, build_app
from auterity_dagster.storage.repositories.ledger import open_ledger
from auterity_dagster.storage.tables.identity import ApiKeyRow
from auterity_dagster.storage.tables.routing import RequestRow
from auterity_dagster.storage.tables.steering import DecisionContextRow
from tests.conftest import DatabaseUrls
from tests.fakes.gateway_config import changed_config
from tests.fakes.gateway_stack import QUESTION, Stack, gateway_settings, running_stack, until
from tests.serving.test_gateway_shadow import without_allowance

BODY = {"model": "auto", "messages": QUESTION}


@dataclass(frozen=True)
class Exploring:
    """A gateway whose requests get ids of the test's choice: the draw is made from them."""

    stack: Stack
    gateway: Gateway
    key_id: UUID

    def request(self, *, is_tried: bool) -> ChatRequest:
        """Return a request that is tried elsewhere, or is not: the two sandbox models are equally unknown."""
        request_id = uuid4()
        while (drawn(request_id, "exploration") < 0.03 and drawn(request_id, "exploration arm") > 0.5) is not is_tried:
            request_id = uuid4()
        caller = Caller(self.stack.organization_id, self.key_id, None, "workflow")
        return ChatRequest(request_id, caller, "auto", "chat", 400, 100, 50, is_stream=False)

    async def ask(self, *, is_tried: bool) -> tuple[str, UUID]:
        """Return which deployment answered, and the request's id."""
        request = self.request(is_tried=is_tried)
        answer, _ = await self.gateway.complete(request, BODY)
        return answer.attempt.step.deployment.id, request.id


@asynccontextmanager
async def exploring(
    urls: DatabaseUrls, redis_url: str, folder: Path, *, cap: str, opened: OpenLedger = open_ledger
) -> AsyncGenerator[Exploring]:
    def change(policy: dict[str, Any]) -> None:
        policy["rules"][-1]["then"]["explore"] = {"share": 0.03, "max_usd_per_day": cap}

    config_dir = changed_config(folder, change)
    async with running_stack(urls, redis_url, folder, config_dir=config_dir) as stack:
        async with stack.database.begin(stack.organization_id) as session:
            key_id = (await session.scalars(select(ApiKeyRow.id).where(ApiKeyRow.purposes == ["workflow"]))).one()
        app = build_app(
            gateway_settings(urls, redis_url, folder / "secrets", stack.sandbox_url, config_dir=config_dir),
            opened=opened,
        )
        async with app.router.lifespan_context(app) as state:
            assert state is not None
            yield Exploring(stack, state["relaycore"].gateway, key_id)


async def test_a_tried_answer_is_paid_by_its_allowance_and_its_stored_decision_replays(
    database_urls: DatabaseUrls, redis_url: str, tmp_path: Path
) -> None:
    async with exploring(database_urls, redis_url, tmp_path, cap="1.00") as one:
        usual, usual_id = await one.ask(is_tried=False)
        tried, tried_id = await one.ask(is_tried=True)
        database, organization_id = one.stack.database, one.stack.organization_id
        rows: dict[UUID, RequestRow] = {}

        async def are_written() -> bool:
            async with database.begin(organization_id) as session:
                rows.update({row.id: row for row in await session.scalars(select(RequestRow))})
            return len(rows) == 2

        await until(are_written)
        holds = {hold.request_id: hold for hold in await one.stack.closed_holds(2)}
        async with database.begin(organization_id) as session:
            contexts = {
                (row.kind, row.digest): row.content for row in await session.scalars(select(DecisionContextRow))
            }

    assert (usual, tried) == ("sandbox-large", "sandbox-small")
    assert (holds[usual_id].purpose, holds[tried_id].purpose) == ("workflow", "exploration")
    assert holds[tried_id].state == "settled"
    assert rows[usual_id].propensity == pytest.approx(0.985)
    assert rows[tried_id].propensity == pytest.approx(0.015)
    inputs = rows[tried_id].decided_on
    assert inputs is not None
    policy = read_policy(contexts["policy", inputs["policy"]]["yaml"], source="stored")
    again = choose(policy, *restored(inputs, contexts["catalog", inputs["catalog"]]))
    assert again.steps[0].is_explored
    assert told(again)["propensity"] == rows[tried_id].decision["propensity"] == rows[tried_id].propensity


@pytest.mark.parametrize(
    ("opened", "is_kept"), [(open_ledger, True), (without_allowance, False)], ids=["ours", "broken"]
)
async def test_trying_never_spends_beyond_its_own_budget_and_the_caller_is_answered_all_the_same(
    database_urls: DatabaseUrls, redis_url: str, tmp_path: Path, opened: Any, is_kept: bool
) -> None:
    async with exploring(database_urls, redis_url, tmp_path, cap="0.00002", opened=opened) as one:
        answered = [(await one.ask(is_tried=True))[0] for _ in range(4)]
        holds = await one.stack.closed_holds(4)

    spent = sum(hold.cost_nusd or 0 for hold in holds if hold.purpose == "exploration")
    assert len(answered) == 4
    assert (spent <= 20_000 and answered == ["sandbox-large"] * 4) is is_kept, (spent, answered)
