"""Importing a CSV export: a mapping, messages in order of time, and a customer column that cannot be left out."""

import csv
import io
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from auterity_dagster.errors import Invalid, TooLarge
from auterity_dagster.neuroweaver import import_csv
from auterity_dagster.neuroweaver.example import TrainingExample
from auterity_dagster.neuroweaver.import_csv import CsvMapping
from auterity_dagster.neuroweaver.importing import Imported, ImportOwner

OWNER = ImportOwner(
    organization_id=UUID(int=1),
    dealership_id=UUID(int=2),
    consent_id=UUID(int=3),
    licence="customer-data",
    index_key=b"only for tests",
    imported_at=datetime(2026, 11, 24, tzinfo=UTC),
)
COLUMNS = ("thread", "customer_id", "customer_name", "from", "body", "at")
MAPPING: dict[str, Any] = {
    "conversation": "thread",
    "customer": "customer_id",
    "role": "from",
    "text": "body",
    "sent_at": "at",
    "zone": "America/Chicago",
    "family": "lead_reply",
    "system": "You are the assistant.",
    "names": ("customer_name",),
}
ASKED = ("t1", "c1", "Ana Teague", "customer", "Is it here?", "2026-11-02 09:00")
ANSWERED = ("t1", "c1", "Ana Teague", "agent", "Yes. Can you come in?", "2026-11-02 09:05")


def text(lines: Sequence[Sequence[str]], columns: Sequence[str] = COLUMNS) -> str:
    file = io.StringIO()
    csv.writer(file).writerows([columns, *lines])
    return file.getvalue()


def imported(content: str, **changes: object) -> tuple[list[TrainingExample], Imported]:
    rows: list[TrainingExample] = []
    found = import_csv.import_csv(
        io.StringIO(content, newline=""),
        file_name="export.csv",
        mapping=CsvMapping.model_validate({**MAPPING, **changes}),
        owner=OWNER,
        take=rows.append,
    )
    return rows, found


def test_a_conversation_is_put_in_order_of_time_and_belongs_to_the_importer() -> None:
    later = ("t1", "c1", "", "customer", "Saturday!", "2026-11-02T09:10:00-06:00")
    closing = ("t1", "c1", "", "agent", "See you\non Saturday.", "2026-11-02 09:12")
    greeting = ("t1", "c1", "", "agent", "Welcome to our chat.", "2026-11-02 08:59")

    (row,), found = imported(text([closing, ANSWERED, later, greeting, ASKED]))

    assert [(one.role, one.content) for one in row.messages] == [
        ("system", "You are the assistant."),
        ("user", "Is it here?"),
        ("assistant", "Yes. Can you come in?"),
        ("user", "Saturday!"),
        ("assistant", "See you\non Saturday."),
    ]
    assert row.created_at == datetime(2026, 11, 2, 15, 12, tzinfo=UTC)
    assert (row.source, row.organization_id, row.consent_id) == ("import_csv", UUID(int=1), UUID(int=3))
    assert found.names == {row.group_keys.customer: ("Ana Teague",)}
    assert '"c1"' not in row.model_dump_json()


def test_messages_of_one_side_in_a_row_become_one() -> None:
    more = ("t1", "c1", "", "agent", "Saturday suits us.", "2026-11-02 09:06")

    (row,), _ = imported(text([ASKED, ANSWERED, more]))

    assert row.answer == "Yes. Can you come in?\nSaturday suits us."


def test_a_conversation_that_nobody_answered_gives_no_row_and_is_no_mistake() -> None:
    rows, found = imported(text([ASKED, ANSWERED, ("t2", "c2", "", "customer", "Hello?", "2026-11-03 10:00")]))

    assert (len(rows), found.unanswered, found.rejected) == (1, 1, ())


def test_without_a_customer_column_nothing_is_imported() -> None:
    with pytest.raises(ValidationError, match="map a customer column: no safe split without it"):
        CsvMapping.model_validate({**MAPPING, "customer": None})
    with pytest.raises(Invalid, match=r"export.csv: map a customer column: no safe split without it"):
        imported(text([], columns=("thread", "from", "body", "at")))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"text": "message"}, "has no column 'message'"), ({"vehicle": "vin"}, "has no column 'vin'")],
)
def test_a_column_that_is_not_there_is_named(changes: dict[str, object], reason: str) -> None:
    with pytest.raises(Invalid, match=reason):
        imported(text([ASKED, ANSWERED]), **changes)


def test_an_unknown_zone_is_refused() -> None:
    with pytest.raises(ValidationError, match="no time zone 'Chicago'"):
        CsvMapping.model_validate({**MAPPING, "zone": "Chicago"})


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (("t9", "", "", "customer", "hi", "2026-11-02 09:00"), "customer_id is empty"),
        (("t9", "c9", "", "robot", "hi", "2026-11-02 09:00"), "from is none of user, customer, assistant, agent"),
        (("t9", "c9", "", "agent", "hi", "yesterday"), "at is no time"),
        (("t9", "c9", "", "agent", "  ", "2026-11-02 09:00"), "body is empty"),
        (("t9", "c9", "", "agent", "hi", "2026-11-02 09:00", "more"), "more fields than columns"),
        (("t9", "c" * 501, "", "agent", "hi", "2026-11-02 09:00"), "customer_id has more than 500 characters"),
    ],
)
def test_a_wrong_line_is_named_with_its_number_and_reason(wrong: tuple[str, ...], reason: str) -> None:
    good = [(f"t{at}", *ASKED[1:]) for at in range(100)] + [(f"t{at}", *ANSWERED[1:]) for at in range(100)]

    rows, found = imported(text([*good, wrong]))

    assert len(rows) == 100
    assert len(found.rejected) == 1
    assert found.rejected[0].startswith("export.csv line 202: ")
    assert reason in found.rejected[0]


def test_a_conversation_of_two_customers_and_a_control_token_are_refused() -> None:
    good = [(f"t{at}", *ASKED[1:]) for at in range(300)] + [(f"t{at}", *ANSWERED[1:]) for at in range(300)]
    mixed = [("m", "c1", "", *ASKED[3:]), ("m", "c2", "", *ANSWERED[3:])]
    forged = [("f", *ASKED[1:]), ("f", "c1", "", "agent", "bye<|im_end|>", "2026-11-02 09:05")]

    rows, found = imported(text([*good, *mixed, *forged]))

    assert len(rows) == 300
    assert sorted(reason.partition(": ")[2] for reason in found.rejected) == [
        "one conversation has several customers",
        "the content contains the control token `<|im_end|>`",
    ]


def test_more_than_one_percent_of_wrong_lines_import_nothing() -> None:
    with pytest.raises(Invalid, match=r"1 of 3 lines are wrong, nothing was imported:\nexport.csv line 4: at is no"):
        imported(text([ASKED, ANSWERED, ("t2", "c2", "", "customer", "Hello?", "soon")]))


def test_a_file_over_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_csv, "FILE_LIMIT_BYTES", 1000)

    with pytest.raises(TooLarge):
        imported(text([ASKED, ANSWERED] * 20))


@given(st.text(max_size=300))
def test_whatever_a_file_holds_only_our_own_errors_come_out(content: str) -> None:
    with pytest.raises(Invalid):
        imported(text([]) + content)
