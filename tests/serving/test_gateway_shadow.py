"""Shadow calls, through the real gateway: after the answer, for their own money, and nothing to the caller."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text

from auterity_dagster.relaycore.budget import Scope
from auterity_dagster.relaycore.ports import Hold, HoldRequest, Ledger
from auterity_dagster.serving.relaycore.app import build_app
from auterity_dagster.storage.database import Database
from auterity_dagster.storage.repositories.ledger import PostgresLedger, open_ledger
from auterity_dagster.storage.tables.ledger import BudgetWindowRow, HoldRow, UsageRow
from auterity_dagster.storage.tables.steering import ShadowPairRow
from tests.conftest import DatabaseUrls
from tests.fakes.gateway_config import changed_config
from tests.fakes.gateway_stack import QUESTION, Stack, running_stack, until
from tests.fakes.ledger_requests import make_budget

CAP_NUSD = 3_000_000
"""Room for a few answers of the large sandbox model: one of 20 tokens may cost 1.8 million and costs about a third."""


def with_shadow(policy: dict[str, Any], *, share: float = 1.0, cap: str = "1.00") -> None:
    policy["rules"][-1]["then"]["shadow"] = {"deployment": "sandbox-large", "share": share, "max_usd_per_day": cap}


@pytest.fixture
async def stack(database_urls: DatabaseUrls, redis_url: str, tmp_path: Path) -> AsyncIterator[Stack]:
    config_dir = changed_config(tmp_path, with_shadow)
    async with running_stack(database_urls, redis_url, tmp_path, config_dir=config_dir, gateway_drain_s=1) as stack:
        yield stack


async def pairs(database: Database, stack: Stack, count: int) -> Sequence[ShadowPairRow]:
    found: Sequence[ShadowPairRow] = []

    async def are_kept() -> bool:
        nonlocal found
        async with database.begin(stack.organization_id) as session:
            found = (await session.scalars(select(ShadowPairRow).order_by(ShadowPairRow.happened_at))).all()
        return len(found) >= count

    await until(are_kept)
    return found


async def test_a_copy_follows_the_answer_and_both_are_kept_as_a_pair(stack: Stack) -> None:
    key_budget = await make_budget(stack.database, stack.organization_id, cap_nusd=10**9, scope=Scope.KEY, name="Key")
    tags = {"x-auterity-tags": "spring", "x-auterity-task": "chat"}
    whole = await stack.ask({}, **tags)
    streamed = await stack.ask({"stream": True, "messages": [{"role": "user", "content": "And the red one?"}]}, **tags)
    async with stack.http(**tags) as client:
        message = await client.post(
            "/v1/messages", json={"model": "sandbox-small", "max_tokens": 40, "stream": True, "messages": QUESTION}
        )

    kept = await pairs(stack.database, stack, 3)

    assert [one.status_code for one in (whole, streamed, message)] == [200] * 3
    assert whole.headers["x-auterity-deployment"] == "sandbox-small"
    assert {(one.served_deployment_id, one.shadow_deployment_id, one.shadow_outcome) for one in kept} == {
        ("sandbox-small", "sandbox-large", "ok")
    }
    asked = {one.headers["x-request-id"] for one in (whole, streamed, message)}
    assert {str(one.request_id) for one in kept} == asked
    assert all(len(one.served_answer_digest or b"") == len(one.shadow_answer_digest or b"") == 32 for one in kept)
    billed = {line["model"]: 0 for line in await stack.bill()}
    assert billed.keys() == {"sandbox-small", "sandbox-large"}
    holds = await stack.closed_holds(6)
    shadows = [one for one in holds if one.purpose == "shadow"]
    assert [(one.deployment_id, one.state, one.tags, one.user_id) for one in shadows] == [
        ("sandbox-large", "settled", [], None)
    ] * 3
    async with stack.database.begin(stack.organization_id) as session:
        usage = (await session.scalars(select(UsageRow).where(UsageRow.purpose == "shadow"))).all()
        window = (await session.scalars(select(BudgetWindowRow).where(BudgetWindowRow.budget_id == key_budget))).one()
    assert sum(row.cost_nusd for row in usage) == sum(one.cost_nusd or 0 for one in shadows) > 0
    assert window.settled_nusd == sum(one.cost_nusd or 0 for one in holds if one.purpose != "shadow")


async def test_a_shadow_that_hangs_or_bills_too_much_is_nothing_to_the_caller(stack: Stack) -> None:
    await stack.set_faults({"fault": "blackhole", "model": "sandbox-large", "times": 1})
    answered = await stack.ask()
    async with stack.database.begin(stack.organization_id) as session:
        states = {row.purpose: row.state for row in await session.scalars(select(HoldRow))}
    assert answered.status_code == 200
    assert states.get("shadow", "held") == "held"

    await stack.set_faults({"fault": "usage_too_high", "model": "sandbox-large", "times": 1})
    await stack.ask({"max_tokens": 8})
    [pair] = await pairs(stack.database, stack, 1)

    async def is_booked() -> bool:
        async with stack.database.begin(stack.organization_id) as session:
            held = select(HoldRow).where(HoldRow.request_id == pair.shadow_request_id)
            hold = (await session.scalars(held)).one()
        assert (pair.shadow_cost_nusd or 0) > hold.amount_nusd
        return hold.state == "settled"

    await until(is_booked)
    async with stack.database.begin(stack.organization_id) as session:
        frozen = (await session.scalars(text("SELECT frozen_by_request_id FROM api_key"))).all()
    assert frozen == [None] * len(frozen)
    assert (await stack.ask()).status_code == 200


class WithoutAllowance:
    """The broken variant: a ledger that is not told which allowance is to pay."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.settle, self.void, self.leave_unknown = ledger.settle, ledger.void, ledger.leave_unknown
        self.extend = ledger.extend

    async def hold(self, request: HoldRequest) -> Hold:
        return await self._ledger.hold(replace(request, allowance=None))


@asynccontextmanager
async def without_allowance(url: str) -> AsyncGenerator[Ledger]:
    async with open_ledger(url) as ledger:
        yield WithoutAllowance(ledger)


@asynccontextmanager
async def with_allowance(url: str) -> AsyncGenerator[Ledger]:
    async with open_ledger(url) as ledger:
        assert isinstance(ledger, PostgresLedger)
        yield ledger


@pytest.mark.parametrize(
    ("opened", "is_kept"), [(with_allowance, True), (without_allowance, False)], ids=["ours", "broken"]
)
async def test_shadow_calls_never_spend_beyond_their_own_budget_and_end_before_the_process(
    database_urls: DatabaseUrls, redis_url: str, tmp_path: Path, opened: Any, is_kept: bool
) -> None:
    config_dir = changed_config(tmp_path, partial(with_shadow, cap="0.003"))
    async with running_stack(
        database_urls, redis_url, tmp_path, config_dir=config_dir, build=partial(build_app, opened=opened)
    ) as stack:
        answers = [await stack.ask({"max_tokens": 20}) for _ in range(8)]
        assert {one.status_code for one in answers} == {200}

    database = Database(database_urls.application)
    async with database.begin(stack.organization_id) as session:
        shadows = (await session.scalars(select(HoldRow).where(HoldRow.purpose == "shadow"))).all()
    await database.close()

    assert shadows
    assert all(one.state == "settled" for one in shadows)
    held = sum(one.amount_nusd for one in shadows)
    assert (sum(one.cost_nusd or 0 for one in shadows) <= CAP_NUSD and len(shadows) < 8) is is_kept, held


async def test_a_share_of_requests_is_copied_and_restricted_ones_only_where_they_may_be(
    database_urls: DatabaseUrls, redis_url: str, tmp_path: Path
) -> None:
    def change(policy: dict[str, Any]) -> None:
        with_shadow(policy)
        for one in policy["deployments"]:
            if one["id"] == "sandbox-large":
                one["data_policy"] = []

    config_dir = changed_config(tmp_path, change)
    async with running_stack(database_urls, redis_url, tmp_path, config_dir=config_dir) as stack:
        restricted = await stack.ask({}, **{"x-auterity-data-class": "restricted"})
        plain = await stack.ask({})
        [pair] = await pairs(stack.database, stack, 1)

        assert (restricted.status_code, plain.status_code) == (200, 200)
        assert str(pair.request_id) == plain.headers["x-request-id"]
