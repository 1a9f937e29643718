"""P-1 on real PostgreSQL with real processes, and the controls that show the checkers can fail."""

from pathlib import Path

import psycopg
import pytest

from auterity_dagster.storage.database import Database
from auterity_dagster.storage.repositories.ledger import open_ledger
from tests.chaos.checkers import (
    LedgerSample,
    Outcome,
    both_were_tried,
    budgets_are_exact,
    ledger_covers_bill,
    no_phantom_holds,
)
from tests.chaos.ledger_processes import Run, Size, killed_processes, prepared, run_processes
from tests.chaos.ledger_samples import sampling, spend_and_suspense
from tests.chaos.negative_controls import DROP_CHECK
from tests.fakes.ledger_requests import hold_request, usage_record

TEST = Size(calls=2_000, clients=200, processes=2, budgets=10)
OPERATIONS = Size(calls=102_000, clients=200, processes=3, budgets=50)
"""A hold and its closing each: 200,000 operations and a little more."""


async def judge_exact(database: Database, database_urls, folder: Path, size: Size, noted: dict[str, int]) -> None:
    run = await prepared(database, folder, size)

    async with sampling(database_urls.owner, every_s=0.02) as samples:
        await run_processes(run, database_urls.application)

    spend_nusd, suspense_nusd = await spend_and_suspense(database_urls.owner)
    verdicts = (
        budgets_are_exact(samples),
        both_were_tried(run.outcomes(), at_least=size.calls // 5),
        ledger_covers_bill(
            bill_nusd=run.bill_nusd(), spend_nusd=spend_nusd, suspense_nusd=suspense_nusd, is_settled=False
        ),
        no_phantom_holds(samples[-1]),
    )
    noted |= {"n": size.calls} | {
        "ledger_" + name: number for one in verdicts[:2] for name, number in one.numbers.items()
    }
    assert [reason for verdict in verdicts for reason in verdict.reasons] == []
    assert len(run.outcomes()) == size.calls


async def test_two_hundred_concurrent_calls_in_two_processes_never_exceed_a_budget(
    database: Database, database_urls, tmp_path: Path, noted: dict[str, int]
) -> None:
    await judge_exact(database, database_urls, tmp_path, TEST, noted)


@pytest.mark.chaos
@pytest.mark.promise("P-1")
@pytest.mark.timeout(1800)
async def test_two_hundred_thousand_bare_operations_never_exceed_a_budget(
    database: Database, database_urls, tmp_path: Path, noted: dict[str, int]
) -> None:
    await judge_exact(database, database_urls, tmp_path, OPERATIONS, noted)


@pytest.mark.control
@pytest.mark.promise("P-1", control=True)
async def test_a_ledger_that_reads_and_then_writes_is_found_out(
    database: Database, database_urls, tmp_path: Path
) -> None:
    run = await prepared(database, tmp_path, Size(calls=240, clients=40, processes=2, budgets=2))
    with psycopg.connect(database_urls.owner) as connection:
        connection.execute(DROP_CHECK)
    await open_windows(run, database, database_urls)

    async with sampling(database_urls.owner, every_s=0.02) as samples:
        await run_processes(run, database_urls.application, variant="read_then_write")

    assert not budgets_are_exact(samples).is_held


async def test_a_killed_process_leaves_neither_a_hole_nor_a_phantom_hold(
    database: Database, database_urls, tmp_path: Path
) -> None:
    size = Size(calls=600, clients=100, processes=2, budgets=5, expires_in_s=3)

    run, samples = await killed_processes(database, database_urls, tmp_path, size, variant="exact")

    spend_nusd, suspense_nusd = await spend_and_suspense(database_urls.owner)
    bill = ledger_covers_bill(
        bill_nusd=run.bill_nusd(), spend_nusd=spend_nusd, suspense_nusd=suspense_nusd, is_settled=False
    )
    assert budgets_are_exact(samples).reasons == ()
    assert bill.reasons == ()
    assert no_phantom_holds(samples[-1]).reasons == ()


@pytest.mark.chaos
@pytest.mark.promise("P-1")
@pytest.mark.timeout(1800)
async def test_killed_processes_at_chaos_size(
    database: Database, database_urls, tmp_path: Path, noted: dict[str, int]
) -> None:
    size = Size(calls=20_000, clients=200, processes=3, budgets=50, expires_in_s=10)

    noted["n"] = size.calls
    run, samples = await killed_processes(database, database_urls, tmp_path, size, variant="exact")

    spend_nusd, suspense_nusd = await spend_and_suspense(database_urls.owner)
    bill = ledger_covers_bill(
        bill_nusd=run.bill_nusd(), spend_nusd=spend_nusd, suspense_nusd=suspense_nusd, is_settled=False
    )
    assert (budgets_are_exact(samples).reasons, bill.reasons, no_phantom_holds(samples[-1]).reasons) == ((), (), ())


class TestTheCheckersOnPlantedHistories:
    def test_one_nano_dollar_too_much_is_found(self) -> None:
        samples = [LedgerSample(0, 0, 0, 0), LedgerSample(1, 0, 0, 0), LedgerSample(-5, 0, 0, 0)]

        assert budgets_are_exact(samples).reasons == ("a budget was exceeded by 1 nano-dollars",)

    @pytest.mark.parametrize("wrong", [LedgerSample(0, 3, 0, 0), LedgerSample(0, 0, -1, 0)])
    def test_overage_and_unbalanced_entries_are_found(self, wrong: LedgerSample) -> None:
        assert not budgets_are_exact([wrong]).is_held

    def test_no_sample_proves_nothing(self) -> None:
        assert not budgets_are_exact([]).is_held

    def test_a_run_without_refusals_proves_nothing(self) -> None:
        assert not both_were_tried([Outcome("1", "admitted")] * 9, at_least=1).is_held

    def test_an_unbooked_bill_is_found(self) -> None:
        assert not ledger_covers_bill(bill_nusd=10, spend_nusd=5, suspense_nusd=4, is_settled=False).is_held
        assert not ledger_covers_bill(bill_nusd=10, spend_nusd=11, suspense_nusd=0, is_settled=True).is_held


async def open_windows(run: Run, database: Database, database_urls) -> None:
    """The control knows no windows of its own: let the real ledger open them with one hold that is given back."""
    async with open_ledger(database_urls.application) as ledger:
        hold = await ledger.hold(hold_request(run.organization_id, amount_nusd=0, dealership_id=run.dealership_ids[0]))
        await ledger.void(hold, usage_record("connection"))
