"""Importing a user's own chats: JSONL, checked line by line; more than 1 % rejects and nothing is imported.

A line is `{"messages": [{"role", "content"}, …], "customer": "…", "family": "…"}`, with `conversation`, `vehicle`,
`lead` and `label` where they are known. Whose row it is comes from the caller, never from the file.
"""

import hmac
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from auterity_dagster.errors import Invalid, TooLarge
from auterity_dagster.neuroweaver.configuration import problems
from auterity_dagster.neuroweaver.example import (
    ROW_LIMIT_BYTES,
    Family,
    GroupKeys,
    Message,
    TrainingExample,
    example_id,
)

FILE_LIMIT_BYTES = 2 * 1024**3
REJECTED_LIMIT = 0.01
_TOLD = 20


@dataclass(frozen=True, slots=True)
class ImportOwner:
    """Whose rows these are, under which consent and licence, and the key that hides who the customers are."""

    organization_id: UUID
    dealership_id: UUID
    consent_id: UUID
    licence: str
    index_key: bytes
    imported_at: datetime


@dataclass(frozen=True, slots=True)
class Imported:
    """The rows of a file and the reasons of the lines that were left out."""

    rows: tuple[TrainingExample, ...]
    rejected: tuple[str, ...]


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    messages: list[dict[str, str]] = Field(min_length=1, max_length=64)
    customer: str = Field(min_length=1, max_length=500)
    family: str
    conversation: str | None = Field(default=None, min_length=1, max_length=500)
    vehicle: str | None = Field(default=None, min_length=1, max_length=500)
    lead: str | None = Field(default=None, min_length=1, max_length=500)
    label: Literal["accepted", "edited", "outcome_good", "none"] = "none"


def import_lines(lines: Iterable[bytes], *, file_name: str, owner: ImportOwner) -> Imported:
    """Read chat JSONL into training examples. Blank lines are skipped.

    Raises `TooLarge` over 2 GiB, and `Invalid` (code `too_many_rejects`) with the first reasons, such as
    "file.jsonl line 812: first message must be `system`", when more than 1 % of the lines are wrong.
    """
    rows: list[TrainingExample] = []
    rejected: list[str] = []
    size = 0
    for number, line in enumerate(lines, start=1):
        size += len(line)
        if size > FILE_LIMIT_BYTES:
            raise TooLarge(f"{file_name} is larger than {FILE_LIMIT_BYTES} bytes", limit_bytes=FILE_LIMIT_BYTES)
        if not line.strip():
            continue
        try:
            rows.append(_row(line, owner))
        except Invalid as error:
            rejected.append(f"{file_name} line {number}: {error.message}")
    total = len(rows) + len(rejected)
    if total == 0:
        raise Invalid(f"{file_name} has no rows", code="too_many_rejects", rejected=0)
    if len(rejected) > REJECTED_LIMIT * total:
        told = "\n".join(rejected[:_TOLD])
        more = f"\n… and {len(rejected) - _TOLD} more" if len(rejected) > _TOLD else ""
        raise Invalid(
            f"{len(rejected)} of {total} lines are wrong, nothing was imported:\n{told}{more}",
            code="too_many_rejects",
            rejected=len(rejected),
        )
    return Imported(tuple(rows), tuple(rejected))


def _row(line: bytes, owner: ImportOwner) -> TrainingExample:
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
        if parsed.family not in tuple(Family):
            raise Invalid(f"there is no family {parsed.family!r}: {', '.join(Family)}")
        messages = tuple(Message.model_validate(message) for message in parsed.messages)
        return TrainingExample(
            example_id=example_id(messages, None),
            organization_id=owner.organization_id,
            dealership_id=owner.dealership_id,
            family=Family(parsed.family),
            messages=messages,
            trained_turns=(len(messages) - 1,),
            group_keys=GroupKeys(
                customer=_hidden("customer", parsed.customer, owner),
                conversation=parsed.conversation and _hidden("conversation", parsed.conversation, owner),
                vehicle=parsed.vehicle and _hidden("vehicle", parsed.vehicle, owner),
                lead=parsed.lead and _hidden("lead", parsed.lead, owner),
            ),
            source="import_jsonl",
            label=parsed.label,
            consent_id=owner.consent_id,
            licence=owner.licence,
            created_at=owner.imported_at,
        )
    except ValidationError as error:
        raise Invalid(problems(error).removeprefix("file: ")) from error


def _hidden(kind: str, value: str, owner: ImportOwner) -> str:
    return hmac.digest(owner.index_key, f"{kind}:{' '.join(value.lower().split())}".encode(), "sha256").hex()


def _refuse_constant(name: str) -> object:
    raise Invalid(f"{name} is no JSON")
