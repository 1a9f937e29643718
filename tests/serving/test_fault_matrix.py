"""Every fault of a provider, on both wires, streamed or not: each ends as it is documented, and the money is exact."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

import httpx
import psycopg
import pytest
from sqlalchemy import select

from auterity_dagster.embedded.valkey import ValkeyServer
from auterity_dagster.serving.sandbox.faults import FAULTS
from auterity_dagster.storage.tables.ledger import HoldRow, UsageRow
from tests.conftest import FreshDatabases
from tests.fakes.gateway_config import NO_BREAKER, written_config
from tests.fakes.gateway_stack import QUESTION, Stack, running_stack
from tests.fakes.gateway_thread import RunningGateway, gateway_in_a_thread
from tests.serving.fault_cells import SILENT, TAKEN_OUT, UNASKED, WIRES, Cell, Ended, Wire, cells, ended, problem

PATHS = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages"}
WITHIN_S = 30.0
"""No call hangs: the longest time-out of the policy is shorter."""

SILENT_S = 0.5


@dataclass(frozen=True)
class Booked:
    """One attempt's hold as it was closed, and under which id the provider billed it, if it said so."""

    state: str
    amount_nusd: int
    cost_nusd: int | None
    provider_request_id: str | None


async def called(stack: Stack, cell: Cell) -> Ended:
    headers = {"x-auterity-task": cell.pool, "x-auterity-timeout-s": str(SILENT_S if cell.fault in SILENT else 12)}
    body = {"model": "auto", "messages": QUESTION, "max_tokens": 64, "stream": cell.is_streamed}
    async with stack.http(**headers) as client:
        return ended(cell.caller, await client.post(PATHS[cell.caller], json=body, timeout=WITHIN_S))


def money_problems(booked: Sequence[Booked], bill: Mapping[str, int]) -> list[str]:
    """What settled costs what the provider billed for it; what is unknown covers all else that it billed."""
    left, problems = dict(bill), list[str]()
    for one in booked:
        billed = left.pop(one.provider_request_id or "", 0)
        if one.state == "settled" and billed != one.cost_nusd:
            problems.append(f"settled {one.cost_nusd}, billed {billed}")
        elif one.state != "settled" and billed > (one.amount_nusd if one.state == "unknown" else 0):
            problems.append(f"{billed} nano-dollars were billed for a hold that is {one.state}")
    nameless = (one.amount_nusd for one in booked if one.state == "unknown" and one.provider_request_id is None)
    covers = sorted(nameless, reverse=True)
    for billed, held in zip(sorted(left.values(), reverse=True), [*covers, *[0] * len(left)], strict=False):
        if billed > held:
            problems.append(f"{billed} nano-dollars were billed and are not in the ledger")
    return problems


async def money(stack: Stack) -> list[str]:
    holds: Sequence[HoldRow] = await stack.closed_holds(1)
    async with stack.database.begin(stack.organization_id) as session:
        ids = {row.id: row.provider_request_id for row in await session.scalars(select(UsageRow))}
    bill = {line["id"]: line["cost_nusd"] for line in await stack.bill()}
    return money_problems([Booked(one.state, one.amount_nusd, one.cost_nusd, ids[one.id]) for one in holds], bill)


@dataclass(frozen=True)
class Matrix:
    gateway: RunningGateway
    owner_url: str
    right: str

    def thaw_keys(self) -> None:
        """Whoever is billed above the bound is frozen; here the other cells are asked too."""
        self.gateway.wait_for(self.gateway.stack.closed_holds(1))
        with psycopg.connect(self.owner_url) as connection:
            connection.execute("UPDATE api_key SET frozen_by_request_id = NULL")


@pytest.fixture(scope="module")
def matrix(
    fresh_databases: FreshDatabases, redis_server: ValkeyServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Matrix]:
    """One gateway for all cells, with providers on both wires."""
    folder = tmp_path_factory.mktemp("matrix")
    pools = {cell.pool: cell.provider for fault in TAKEN_OUT for cell in cells(fault)}
    # Another try at the same deployment waits a while first; what matters here is how a call ends.
    changes = written_config(folder, pools=pools, breaker=NO_BREAKER, attempts={"per_deployment": 1})
    with fresh_databases.one() as urls:

        def opened() -> AbstractAsyncContextManager[Stack]:
            return running_stack(urls, redis_server.url, folder, **changes)

        with gateway_in_a_thread(opened, application_url=urls.application, secrets_dir=folder / "secrets") as gateway:
            faultless = Cell("none", "openai", "openai", is_streamed=False, is_everywhere=False)
            right = gateway.wait_for(called(gateway.stack, faultless)).text
            assert right
            yield Matrix(gateway, urls.owner, right)


async def all_called(stack: Stack, asked: Sequence[Cell]) -> list[Ended]:
    return await asyncio.gather(*(called(stack, cell) for cell in asked))


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault not in UNASKED])
def test_every_cell_of_a_fault_ends_as_documented_and_the_money_is_exact(matrix: Matrix, fault: str) -> None:
    gateway, ends = matrix.gateway, list[Ended]()
    dial = {"fault": fault, "delay_s": 0.05 if fault == "trickle" else 3, "retry_after_s": 30}
    for is_everywhere in (False, True):
        gateway.set_faults(dial if is_everywhere else dial | {"model": "sandbox-large"})
        asked = [cell for cell in cells(fault) if cell.is_everywhere == is_everywhere]
        # Together where all wait; one after the other where the share of attempts beyond the first is bounded.
        for group in [asked] if fault in SILENT else [[cell] for cell in asked]:
            ends += gateway.wait_for(all_called(gateway.stack, group))
            if fault == "usage_too_high":
                matrix.thaw_keys()

    found = [problem(cell, end, right=matrix.right) for cell, end in zip(cells(fault), ends, strict=True)]
    assert [one for one in found if one is not None] == []
    assert gateway.wait_for(money(gateway.stack)) == []


A_CELL = Cell("error_500", "openai", "openai", is_streamed=False, is_everywhere=True)


@pytest.mark.control
@pytest.mark.parametrize(
    "found",
    [
        Ended("right"),  # an answer where there can be none
        Ended(None, "internal_error", 503, "overloaded_error"),
        Ended(None, "upstream_error", 500, "api_error"),
        Ended(None, "upstream_error", 502, "overloaded_error"),
    ],
    ids=["answer", "code", "status", "type"],
)
def test_an_end_that_is_not_the_documented_one_is_found(found: Ended) -> None:
    assert problem(A_CELL, Ended(None, "upstream_error", 502, "api_error"), right="right") is None
    assert problem(A_CELL, found, right="right") is not None


@pytest.mark.control
@pytest.mark.parametrize("wire", WIRES)
def test_a_stream_with_neither_end_nor_error_or_with_both_is_found(wire: Wire) -> None:
    words = {"openai": '{"choices": []}', "anthropic": '{"type": "content_block_delta", "delta": {"text": "hi"}}'}[wire]
    end = {"openai": "[DONE]", "anthropic": '{"type": "message_stop"}'}[wire]
    for lines in ([words], [words, '{"type": "error", "error": {}}', end]):
        text = "".join(f"data: {line}\n\n" for line in lines)
        with pytest.raises(AssertionError, match="never both"):
            ended(wire, httpx.Response(200, headers={"content-type": "text/event-stream"}, text=text))


@pytest.mark.control
@pytest.mark.parametrize(
    ("hold", "is_right"),
    [
        (Booked("settled", 9, 5, "a"), True),
        (Booked("settled", 9, 4, "a"), False),
        (Booked("unknown", 5, None, None), True),
        (Booked("unknown", 4, None, "a"), False),
        (Booked("voided", 9, None, "a"), False),
        (Booked("voided", 9, None, None), False),
    ],
    ids=["settled", "settled for less", "unknown", "unknown for less", "voided", "voided without an id"],
)
def test_money_that_the_ledger_lacks_is_found(hold: Booked, is_right: bool) -> None:
    assert (money_problems([hold], {"a": 5}) == []) == is_right
