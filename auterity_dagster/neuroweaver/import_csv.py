"""Importing a CSV export of conversations, one message a line: a mapping says which column is what.

Lines of one conversation may stand anywhere in the file: they are put in order of time in an unnamed database on disk.
"""

import csv
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime
from itertools import groupby
from typing import Annotated, Literal, NamedTuple, Self
from zoneinfo import ZoneInfo, available_timezones

from pydantic import BaseModel, ConfigDict, Field, model_validator

from auterity_dagster.errors import Invalid, TooLarge
from auterity_dagster.neuroweaver.example import CONTENT_LIMIT, Family, Label
from auterity_dagster.neuroweaver.importing import (
    FILE_LIMIT_BYTES,
    Imported,
    ImportLog,
    ImportOwner,
    RawRow,
    Take,
)

Column = Annotated[str, Field(min_length=1, max_length=200)]
Role = Literal["user", "assistant"]
_VALUE_LIMIT = 500
_TURNS = 62
_NO_CUSTOMER = "map a customer column: no safe split without it"


class CsvMapping(BaseModel):
    """Which column is what. `roles` says whom a value of the role column means; `zone` is for times without one.

    `system` is the instruction that every conversation of this family is served with; `names` are columns with names of
    the customer, which are scrubbed from the texts.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    conversation: Column
    customer: Column | None = None
    role: Column
    text: Column
    sent_at: Column
    zone: str
    family: Family
    system: str = Field(min_length=1, max_length=CONTENT_LIMIT)
    roles: Mapping[str, Role] = {"user": "user", "customer": "user", "assistant": "assistant", "agent": "assistant"}
    vehicle: Column | None = None
    lead: Column | None = None
    names: tuple[Column, ...] = ()
    time_format: str | None = None
    delimiter: str = Field(default=",", min_length=1, max_length=1)
    label: Label = "none"

    @model_validator(mode="after")
    def _can_be_used(self) -> Self:
        if self.customer is None:
            raise ValueError(_NO_CUSTOMER)
        if self.zone not in available_timezones():
            raise ValueError(f"zone: there is no time zone {self.zone!r}, a name such as America/Chicago is needed")
        return self


class _Line(NamedTuple):
    conversation: str
    sent_at: str
    line: int
    customer: str
    role: Role
    text: str
    vehicle: str | None
    lead: str | None
    names: str


def import_csv(
    lines: Iterable[str], *, file_name: str, mapping: CsvMapping, owner: ImportOwner, take: Take
) -> Imported:
    """Read a CSV export into training examples, one a conversation whose last turn is the dealership's.

    Messages of one side in a row become one; what stands before the customer's first and after the dealership's last
    message is left off, and a conversation that nobody answered gives no row. Raises `TooLarge` over 2 GiB; `Invalid`
    for a column that is not there ("map a customer column: no safe split without it") and, as the JSONL import does,
    when more than 1 % of the lines are wrong.
    """
    log = ImportLog(file_name, owner, take)
    with closing(sqlite3.connect("")) as ordered:
        ordered.execute(
            "CREATE TABLE line (conversation TEXT, sent_at TEXT, line INTEGER, customer TEXT, role TEXT, text TEXT,"
            " vehicle TEXT, lead TEXT, names TEXT)"
        )
        ordered.executemany("INSERT INTO line VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", _read(lines, mapping, log))
        found = ordered.execute("SELECT * FROM line ORDER BY conversation, sent_at, line")
        for _, messages in groupby((_Line(*row) for row in found), key=lambda line: line.conversation):
            whole = list(messages)
            try:
                turns = _turns(whole)
                if turns:
                    log.add(_row(whole, turns, mapping))
                else:
                    log.unanswered += 1
            except Invalid as error:
                log.reject(min(one.line for one in whole), error.message, lines=len(whole))
    return log.close()


def _read(lines: Iterable[str], mapping: CsvMapping, log: ImportLog) -> Iterator[_Line]:
    reader = csv.DictReader(_limited(lines, log.file_name), delimiter=mapping.delimiter, strict=True)
    _check_columns(reader.fieldnames or (), mapping, log.file_name)
    while True:
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            log.lines += 1
            log.reject(reader.line_num, f"not CSV: {error}")
            continue
        log.lines += 1
        try:
            yield _line(values, mapping, reader.line_num)
        except Invalid as error:
            log.reject(reader.line_num, error.message)


def _limited(lines: Iterable[str], file_name: str) -> Iterator[str]:
    size = 0
    for line in lines:
        size += len(line.encode())
        if size > FILE_LIMIT_BYTES:
            raise TooLarge(f"{file_name} is larger than {FILE_LIMIT_BYTES} bytes", limit_bytes=FILE_LIMIT_BYTES)
        yield line


def _check_columns(columns: Iterable[str], mapping: CsvMapping, file_name: str) -> None:
    present = tuple(columns)
    if mapping.customer not in present:
        raise Invalid(f"{file_name}: {_NO_CUSTOMER}", code="no_customer_column", field="customer")
    wanted = (mapping.conversation, mapping.role, mapping.text, mapping.sent_at, *mapping.names)
    for column in (*wanted, *(one for one in (mapping.vehicle, mapping.lead) if one is not None)):
        if column not in present:
            raise Invalid(f"{file_name} has no column {column!r}", code="no_such_column", field=column)


def _line(values: Mapping[str | None, str | None], mapping: CsvMapping, number: int) -> _Line:
    def value(column: str | None) -> str | None:
        found = (values.get(column) or "").strip() if column is not None else ""
        if len(found) > _VALUE_LIMIT:
            raise Invalid(f"{column} has more than {_VALUE_LIMIT} characters")
        return found or None

    def needed(column: str | None) -> str:
        found = value(column)
        if found is None:
            raise Invalid(f"{column} is empty")
        return found

    if None in values:
        raise Invalid("there are more fields than columns")
    text = (values.get(mapping.text) or "").strip()
    if not text:
        raise Invalid(f"{mapping.text} is empty")
    role = mapping.roles.get(needed(mapping.role).lower())
    if role is None:
        raise Invalid(f"{mapping.role} is none of {', '.join(mapping.roles)}")
    return _Line(
        conversation=needed(mapping.conversation),
        sent_at=_time(needed(mapping.sent_at), mapping).isoformat(timespec="microseconds"),
        line=number,
        customer=needed(mapping.customer),
        role=role,
        text=text,
        vehicle=value(mapping.vehicle),
        lead=value(mapping.lead),
        names="\n".join(found for column in mapping.names if (found := value(column)) is not None),
    )


def _time(written: str, mapping: CsvMapping) -> datetime:
    try:
        if mapping.time_format is None:
            found = datetime.fromisoformat(written)
        else:
            found = datetime.strptime(written, mapping.time_format)  # noqa: DTZ007 - its zone is set below
        local = found if found.tzinfo is not None else found.replace(tzinfo=ZoneInfo(mapping.zone))
        return local.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise Invalid(f"{mapping.sent_at} is no time") from error


def _turns(lines: list[_Line]) -> list[tuple[Role, list[_Line]]]:
    """Return the turns from a customer's to the dealership's last, at most 62; none if nobody answered."""
    turns: list[tuple[Role, list[_Line]]] = []
    for line in lines:
        if turns and turns[-1][0] == line.role:
            turns[-1][1].append(line)
        else:
            turns.append((line.role, [line]))
    if turns and turns[0][0] == "assistant":
        turns = turns[1:]
    if turns and turns[-1][0] == "user":
        turns = turns[:-1]
    return turns[-_TURNS:]


def _row(lines: list[_Line], turns: list[tuple[Role, list[_Line]]], mapping: CsvMapping) -> RawRow:
    customers = {line.customer for line in lines}
    if len(customers) > 1:
        raise Invalid("one conversation has several customers")
    messages = [{"role": "system", "content": mapping.system}]
    messages += [{"role": role, "content": "\n".join(one.text for one in said)} for role, said in turns]
    return RawRow(
        family=mapping.family,
        messages=messages,
        customer=lines[0].customer,
        conversation=lines[0].conversation,
        vehicle=next((line.vehicle for line in lines if line.vehicle), None),
        lead=next((line.lead for line in lines if line.lead), None),
        label=mapping.label,
        source="import_csv",
        created_at=datetime.fromisoformat(turns[-1][1][-1].sent_at),
        names=tuple(sorted({name for line in lines for name in line.names.split("\n") if name})),
    )
