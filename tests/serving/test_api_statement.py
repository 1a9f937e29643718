"""The statement and the forecast over the API: the figures are the ledger's, and the file runs nothing."""

import csv
import io
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from auterity_dagster.identity.permission import Role
from auterity_dagster.relaycore.ports import Settlement
from auterity_dagster.serving.api.csv_text import csv_text, harmless
from auterity_dagster.serving.api.routers.statements import PAGE
from auterity_dagster.storage.repositories.ledger import open_ledger
from tests.conftest import DatabaseUrls
from tests.fakes.ledger_requests import hold_request, usage_record
from tests.fakes.usage_rows import usage_row
from tests.serving.conftest import Api

STATEMENT = "/api/v1/ledger/statement.csv"
FORMULA = '=HYPERLINK("https://elsewhere")'
NOVEMBER = {"since": "2020-11-01", "until": "2020-11-30"}


async def booked(api: Api, urls: DatabaseUrls, *, deployment_id: str = "sandbox-large") -> None:
    """300 nano-dollars in October, 500 and an unknown of 200 in November, 50 in December."""
    async with open_ledger(urls.application) as ledger:
        for cost_nusd in (300, 500, None, 50):
            request = hold_request(api.organization_id, amount_nusd=cost_nusd or 200, deployment_id=deployment_id)
            hold = await ledger.hold(request)
            if cost_nusd is None:
                await ledger.leave_unknown(hold, usage_record("timeout"))
            else:
                await ledger.settle(Settlement(hold, cost_nusd, usage_record()))
    moved = (
        "UPDATE entry e SET created_at = CASE h.amount_nusd WHEN 300 THEN timestamptz '2020-11-01 04:59Z' "
        "WHEN 50 THEN timestamptz '2020-12-01 06:00Z' ELSE timestamptz '2020-11-01 05:00Z' END "
        "FROM hold h WHERE h.id = e.hold_id"
    )
    with psycopg.connect(urls.owner) as connection:
        connection.execute(moved)


async def rows(api: Api, **asked: str) -> list[dict[str, str]]:
    answer = await api.owner.get(STATEMENT, params={**NOVEMBER, "time_zone": "America/Chicago", **asked})
    assert answer.status_code == 200, answer.text
    return list(csv.DictReader(io.StringIO(answer.text)))


async def test_opening_entries_and_closing_add_up_account_by_account(api: Api, database_urls: DatabaseUrls) -> None:
    await booked(api, database_urls, deployment_id=FORMULA)

    lines = await rows(api)

    (line,) = [one for one in lines if one["kind"] == "settlement" and one["account"] == "spend"]
    assert (line["amount_usd"], line["balance_usd"]) == ("0.0000005", "0.0000008")
    assert (line["deployment_id"], line["purpose"], line["sequence"]) == ("'" + FORMULA, "workflow", "1")
    assert line["time"] == "2020-11-01T05:00:00+00:00"
    told = [(line["account"], line["kind"], line["amount_nusd"], line["balance_nusd"]) for line in lines]
    assert [one for one in told if one[0] == "spend"] == [
        ("spend", "opening", "", "300"),
        ("spend", "settlement", "500", "800"),
        ("spend", "closing", "", "800"),
    ]
    assert [one for one in told if one[0] == "suspense"] == [
        ("suspense", "opening", "", "0"),
        ("suspense", "unknown", "200", "200"),
        ("suspense", "closing", "", "200"),
    ]
    payable = [one[1:] for one in told if one[0] == "payable:sandbox/large"]
    assert (payable[0], payable[-1]) == (("opening", "", "-300"), ("closing", "", "-1000"))
    assert told[-1] == ("every account", "closing", "", "0")
    december = await rows(api, since="2020-12-01", until="2020-12-02")
    closing = {line["account"]: line["balance_nusd"] for line in lines if line["kind"] == "closing"}
    opening = {line["account"]: line["balance_nusd"] for line in december if line["kind"] == "opening"}
    assert opening == {account: balance for account, balance in closing.items() if account in opening}
    summary = (await api.owner.get("/api/v1/ledger/summary")).json()
    last = {line["account"]: line["balance_nusd"] for line in december if line["kind"] == "closing"}
    assert (int(last["spend"]), int(last["suspense"])) == (summary["spend_nusd"], summary["suspense_nusd"])


async def test_a_period_of_many_entries_is_read_to_its_end(api: Api, database_urls: DatabaseUrls) -> None:
    await booked(api, database_urls)
    more = (
        "INSERT INTO entry SELECT e.organization_id, e.hold_id, n, e.account, sign(e.amount_nusd), 'adjustment', 'd', "
        "e.created_at FROM entry e JOIN hold h ON h.id = e.hold_id, generate_series(2, %s) AS n "
        "WHERE h.amount_nusd = 500"
    )
    with psycopg.connect(database_urls.owner) as connection:
        connection.execute(more, (2 * PAGE + 1,))

    spend = [line for line in await rows(api) if line["account"] == "spend"]

    assert len(spend) == 2 + 1 + 2 * PAGE
    assert [int(line["sequence"]) for line in spend[1:-1]] == list(range(1, 2 * PAGE + 2))
    assert spend[-1]["balance_nusd"] == str(800 + 2 * PAGE)


@pytest.mark.parametrize("cell", ["=1+1", "+1+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", " =1", "\uff1d1"])
def test_a_cell_that_begins_a_formula_is_made_text(cell: str) -> None:
    assert harmless(cell) == "'" + cell
    assert next(csv.reader(io.StringIO(csv_text([[cell]]), newline=""))) == ["'" + cell]


@pytest.mark.parametrize(("cell", "text"), [(-5, "-5"), ("-0.15", "-0.15"), (None, ""), ("a=b", "a=b")])
def test_numbers_and_other_text_stay_as_they_are(cell: int | str | None, text: str) -> None:
    assert harmless(cell) == text


async def test_a_statement_that_reaches_into_the_present_ends_a_minute_ago(
    api: Api, database_urls: DatabaseUrls
) -> None:
    today = datetime.now(UTC).date()
    await booked(api, database_urls)
    with psycopg.connect(database_urls.owner) as connection:
        connection.execute("UPDATE entry SET created_at = now() - interval '2 s' FROM hold h WHERE h.id = hold_id")

    lines = await rows(api, since=str(today - timedelta(days=1)), until=str(today), time_zone="UTC")

    assert [line["kind"] for line in lines] == ["closing"]
    assert datetime.fromisoformat(lines[0]["time"]) < datetime.now(UTC) - timedelta(seconds=50)


WITHOUT_A_PERIOD = (
    {"since": "2020-12-01", "until": "2020-11-01"},
    {"since": "2019-01-01", "until": "2020-11-01"},
    {**NOVEMBER, "time_zone": "Mars/Olympus"},
    {"since": "2020-11-01"},
    {"since": "9999-12-31", "until": "9999-12-31"},
)


async def test_a_statement_without_a_period_is_refused(api: Api) -> None:
    statuses = [(await api.owner.get(STATEMENT, params=asked)).status_code for asked in WITHOUT_A_PERIOD]

    assert statuses == [422] * len(WITHOUT_A_PERIOD)


async def test_only_those_who_read_budgets_get_a_statement_of_their_own_organization(
    api: Api, database_urls: DatabaseUrls
) -> None:
    await booked(api, database_urls)
    limited = api.member(Role.MANAGER, dealership_ids=frozenset({uuid4()}))

    statuses = [
        (await client.get(STATEMENT, params=NOVEMBER)).status_code
        for client in (api.anonymous, api.member(Role.STAFF), limited)
    ]

    assert statuses == [401, 403, 403]
    assert "sandbox" not in (await api.foreigner.get(STATEMENT, params=NOVEMBER)).text


async def spent_every_day(api: Api, *, days: int, **changes: Any) -> None:
    today = datetime.now(UTC).date()
    with api.database.begin(api.organization_id) as session:
        for back in range(1, days + 1):
            session.add(usage_row(api.organization_id, today - timedelta(days=back), cost_nusd=100, **changes))


async def forecasts(api: Api, urls: DatabaseUrls, **budget: str) -> list[dict[str, Any]]:
    """Make a budget, let one call open its window, and ask."""
    wanted = {"name": "Monthly", "scope": "organization", "period": "year", "cap_usd": "1", **budget}
    made = (await api.owner.post("/api/v1/budgets", json=wanted)).json()
    async with open_ledger(urls.application) as ledger:
        held = await ledger.hold(hold_request(api.organization_id, amount_nusd=70, tags=("spring", "autumn")))
        await ledger.settle(Settlement(held, 70, usage_record()))
    return (await api.owner.get(f"/api/v1/budgets/{made['id']}/forecast")).json()


async def test_a_forecast_adds_what_is_to_come_to_what_is_settled(api: Api, database_urls: DatabaseUrls) -> None:
    await spent_every_day(api, days=60)

    [found] = await forecasts(api, database_urls)

    today = datetime.now(UTC).date()
    days_left = (date(today.year + 1, 1, 1) - today).days
    assert found["settled_nusd"] == 70
    assert 70 + 100 * (days_left - 1) <= found["low_nusd"] <= found["high_nusd"] <= 70 + 100 * days_left
    assert (found["why_none"], found["share_over_cap"]) == (None, 0.0)
    assert "weekday" in found["method"]


async def test_too_little_history_is_said_and_not_guessed_from(api: Api, database_urls: DatabaseUrls) -> None:
    await spent_every_day(api, days=3)

    [found] = await forecasts(api, database_urls)

    assert (found["low_nusd"], found["expected_nusd"], found["high_nusd"]) == (None, None, None)
    assert found["why_none"] == "2 whole days of spending are known; a forecast needs at least 7."


async def test_a_forecast_counts_only_what_the_budget_binds(api: Api, database_urls: DatabaseUrls) -> None:
    await spent_every_day(api, days=60)

    by_tag = await forecasts(api, database_urls, scope="tag")

    assert [(one["value"], one["why_none"] is None) for one in by_tag] == [("autumn", False), ("spring", False)]
    budgets = {one["name"]: one["id"] for one in (await api.owner.get("/api/v1/budgets")).json()}
    path = f"/api/v1/budgets/{budgets['Monthly']}/forecast"
    spring, summer = [(await api.owner.get(path, params={"value": one})).json() for one in ("spring", "summer")]
    assert ([one["value"] for one in spring], summer) == (["spring"], [])
    missing = f"/api/v1/budgets/{uuid4()}/forecast"
    assert [(await api.owner.get(missing)).status_code, (await api.foreigner.get(path)).status_code] == [404, 404]
