"""Importing a user's own chats: JSONL, checked line by line; more than 1 % rejects and nothing is imported.

A line is `{"messages": [{"role", "content"}, …], "customer": "…", "family": "…"}`, with `conversation`, `vehicle`,
`lead`, `label`, `names` and `sent_at` where they are known. Whose row it is comes from the caller, never from the file.
"""

import json
from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from auterity_dagster.errors import Invalid, TooLarge
from auterity_dagster.neuroweaver.configuration import problems
from auterity_dagster.neuroweaver.example import ROW_LIMIT_BYTES
from auterity_dagster.neuroweaver.importing import (
    FILE_LIMIT_BYTES,
    Imported,
    ImportLog,
    ImportOwner,
    RawRow,
    Take,
)

_Key = Annotated[str, Field(min_length=1, max_length=500)]


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    messages: list[dict[str, str]] = Field(min_length=1, max_length=64)
    customer: _Key
    family: str
    conversation: _Key | None = None
    vehicle: _Key | None = None
    lead: _Key | None = None
    label: Literal["accepted", "edited", "outcome_good", "none"] = "none"
    names: list[Annotated[str, Field(min_length=1, max_length=200)]] = Field(default=[], max_length=16)
    sent_at: Annotated[AwareDatetime, Field(strict=False)] | None = None


def import_lines(lines: Iterable[bytes], *, file_name: str, owner: ImportOwner, take: Take) -> Imported:
    """Read chat JSONL into training examples. Blank lines are skipped.

    Raises `TooLarge` over 2 GiB, and `Invalid` (code `too_many_rejects`) with the first reasons, such as
    "file.jsonl line 812: first message must be `system`", when more than 1 % of the lines are wrong: what `take` got
    is then to be thrown away.
    """
    log = ImportLog(file_name, owner, take)
    size = 0
    for number, line in enumerate(lines, start=1):
        size += len(line)
        if size > FILE_LIMIT_BYTES:
            raise TooLarge(f"{file_name} is larger than {FILE_LIMIT_BYTES} bytes", limit_bytes=FILE_LIMIT_BYTES)
        if not line.strip():
            continue
        log.lines += 1
        try:
            log.add(_raw(line, owner))
        except Invalid as error:
            log.reject(number, error.message)
    return log.close()


def _raw(line: bytes, owner: ImportOwner) -> RawRow:
    if len(line) > ROW_LIMIT_BYTES:
        raise Invalid(f"the row is larger than {ROW_LIMIT_BYTES} bytes")
    try:
        content: object = json.loads(line.decode("utf-8"), parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise Invalid(f"not UTF-8 at byte {error.start}") from error
    except json.JSONDecodeError as error:
        raise Invalid(f"not JSON at column {error.colno}: {error.msg}") from error
    except RecursionError as error:
        raise Invalid("nested too deeply") from error
    try:
        parsed = _Line.model_validate(content)
    except ValidationError as error:
        raise Invalid(problems(error).removeprefix("file: ")) from error
    return RawRow(
        family=parsed.family,
        messages=parsed.messages,
        customer=parsed.customer,
        conversation=parsed.conversation,
        vehicle=parsed.vehicle,
        lead=parsed.lead,
        label=parsed.label,
        source="import_jsonl",
        created_at=parsed.sent_at or owner.imported_at,
        names=tuple(parsed.names),
    )


def _refuse_constant(name: str) -> object:
    raise Invalid(f"{name} is no JSON")
