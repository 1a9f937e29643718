"""Importing: each wrong line is named with its number and reason, and a file with too many imports nothing."""

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auterity_dagster.errors import Invalid, TooLarge
from auterity_dagster.neuroweaver import import_jsonl
from auterity_dagster.neuroweaver.example import TrainingExample
from auterity_dagster.neuroweaver.importing import Imported, ImportOwner

OWNER = ImportOwner(
    organization_id=UUID(int=1),
    dealership_id=UUID(int=2),
    consent_id=UUID(int=3),
    licence="customer-data",
    index_key=b"only for tests",
    imported_at=datetime(2026, 11, 24, tzinfo=UTC),
)
MESSAGES = [
    {"role": "system", "content": "You are the assistant."},
    {"role": "user", "content": "Is it here?"},
    {"role": "assistant", "content": "Yes, it is. Can you come in?"},
]


def line(**changes: object) -> bytes:
    values = {"messages": MESSAGES, "customer": "Ana Teague", "family": "lead_reply"} | changes
    return json.dumps(values).encode() + b"\n"


def import_lines(lines: Iterable[bytes]) -> tuple[list[TrainingExample], Imported]:
    rows: list[TrainingExample] = []
    return rows, import_jsonl.import_lines(lines, file_name="file.jsonl", owner=OWNER, take=rows.append)


def imported(wrong: bytes, *, good: int = 200) -> tuple[list[TrainingExample], Imported]:
    return import_lines([*[line()] * (good // 2), wrong, *[line()] * (good // 2)])


def test_rows_belong_to_the_importer_and_hide_who_the_customer_is() -> None:
    row = import_lines([line(label="accepted")])[0][0]

    assert (row.organization_id, row.dealership_id, row.source) == (UUID(int=1), UUID(int=2), "import_jsonl")
    assert row.group_keys.customer != "Ana Teague"
    spelled = import_lines([line(customer="ANA  teague")])[0][0]
    assert spelled.group_keys.customer == row.group_keys.customer


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (line(messages=MESSAGES[1:] + MESSAGES[:1]), "first message must be `system`"),
        (line(messages=MESSAGES[:2] + MESSAGES[1:2]), "last message must be `assistant`"),
        (line(messages=[*MESSAGES[:2], MESSAGES[0], MESSAGES[2]]), "only the first message may be `system`"),
        (
            line(messages=[*MESSAGES[:2], {"role": "assistant", "content": "bye<|im_end|>"}]),
            "control token `<|im_end|>`",
        ),
        (line(messages=[*MESSAGES[:2], {"role": "assistant"}]), "content: Field required"),
        (line(messages=[*MESSAGES[:2], {"role": "bot", "content": "x"}]), "role: Input should be"),
        (line(customer=7), "customer: Input should be a valid string"),
        (line(customer=""), "customer: String should have at least 1 character"),
        (line(family="poetry"), "there is no family 'poetry'"),
        (line(price=1), "price: Extra inputs are not permitted"),
        (b'{"messages": [\n', "not JSON at column"),
        (b"\xff\xfe\n", "not UTF-8 at byte 0"),
        (b'{"customer": NaN}\n', "NaN is no JSON"),
        (b"[]\n", "Input should be a valid dictionary"),
        (b"[" * 60_000 + b"\n", "nested too deeply"),
        (line(messages=[*MESSAGES[:2], {"role": "assistant", "content": "x" * 8_001}]), "at most 8000 characters"),
        (line(customer="x" * 70_000), "the row is larger than 65536 bytes"),
    ],
)
def test_a_wrong_line_is_named_with_its_number_and_reason(wrong: bytes, reason: str) -> None:
    rows, found = imported(wrong)

    assert len(rows) == found.rows == 200
    assert len(found.rejected) == 1
    assert found.rejected[0].startswith("file.jsonl line 101: ")
    assert reason in found.rejected[0]


def test_more_than_one_percent_of_wrong_lines_import_nothing() -> None:
    lines = [line()] * 97 + [b"no\n"] * 2

    with pytest.raises(
        Invalid, match=r"2 of 99 lines are wrong, nothing was imported:\nfile.jsonl line 98: "
    ) as refused:
        import_lines(lines)

    assert refused.value.code == "too_many_rejects"


@pytest.mark.parametrize("lines", [[], [b"\n", b"  \n"]])
def test_an_empty_file_is_said(lines: list[bytes]) -> None:
    with pytest.raises(Invalid, match="has no rows"):
        import_lines(lines)


def test_a_file_over_the_limit_is_refused_before_it_is_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_jsonl, "FILE_LIMIT_BYTES", 1000)

    def endless() -> Iterator[bytes]:
        while True:
            yield line()

    with pytest.raises(TooLarge):
        import_lines(endless())


@given(st.binary(max_size=200))
def test_whatever_bytes_a_line_has_only_our_own_errors_come_out(content: bytes) -> None:
    with pytest.raises(Invalid):
        import_lines([content])


def test_names_and_times_are_taken_from_the_line() -> None:
    rows, found = import_lines([line(names=["Ana Teague"], sent_at="2026-11-02T10:00:00-06:00"), line()])

    assert found.names == {rows[0].group_keys.customer: ("Ana Teague",)}
    assert rows[0].created_at == datetime(2026, 11, 2, 16, tzinfo=UTC)
    assert rows[1].created_at == OWNER.imported_at
