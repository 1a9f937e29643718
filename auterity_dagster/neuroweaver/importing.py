"""What every import shares: whose rows they are, hidden keys, and the rule that 1 % of wrong lines is too many."""

import hmac
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from pydantic import ValidationError

from auterity_dagster.errors import Invalid
from auterity_dagster.neuroweaver.configuration import problems
from auterity_dagster.neuroweaver.example import (
    Family,
    GroupKeys,
    Label,
    Message,
    Source,
    TrainingExample,
    example_id,
)

FILE_LIMIT_BYTES = 2 * 1024**3
REJECTED_LIMIT = 0.01
_TOLD = 20

Take = Callable[[TrainingExample], None]
"""Gets each row as it is read; the rows count only once the import has returned."""


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
    """How many rows a file gave, how many conversations had no answer, why lines were left out.

    `names` are the names of its customers by their hidden key.
    """

    rows: int
    unanswered: int
    rejected: tuple[str, ...]
    names: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class RawRow:
    """One conversation as a file tells it, before it is checked; keys are as the customer's system writes them."""

    family: str
    messages: Sequence[Mapping[str, str]]
    customer: str
    conversation: str | None
    vehicle: str | None
    lead: str | None
    label: Label
    source: Source
    created_at: datetime
    names: tuple[str, ...] = ()


@dataclass(slots=True)
class ImportLog:
    """Counts what an import took and left out."""

    file_name: str
    owner: ImportOwner
    take: Take
    rows: int = 0
    wrong_lines: int = 0
    lines: int = 0
    unanswered: int = 0
    told: list[str] = field(default_factory=list[str])
    names: dict[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])

    def reject(self, line: int, reason: str, *, lines: int = 1) -> None:
        """Leave out `lines` lines, of which the first is `line`."""
        self.wrong_lines += lines
        if len(self.told) < _TOLD:
            self.told.append(f"{self.file_name} line {line}: {reason}")

    def add(self, raw: RawRow) -> None:
        """Check a row and pass it on. Raises `Invalid` with what is wrong with it."""
        row = checked_row(raw, self.owner)
        self.rows += 1
        if raw.names:
            customer = row.group_keys.customer
            self.names[customer] = tuple(sorted({*self.names.get(customer, ()), *raw.names}))
        self.take(row)

    def close(self) -> Imported:
        """End the import. Raises `Invalid` (code `too_many_rejects`) without a row or with over 1 % wrong lines."""
        if self.lines == 0:
            raise Invalid(f"{self.file_name} has no rows", code="too_many_rejects", rejected=0)
        if self.wrong_lines > REJECTED_LIMIT * self.lines:
            more = self.wrong_lines - len(self.told)
            told = "\n".join([*self.told, *([f"… and {more} more"] if more else [])])
            raise Invalid(
                f"{self.wrong_lines} of {self.lines} lines are wrong, nothing was imported:\n{told}",
                code="too_many_rejects",
                rejected=self.wrong_lines,
            )
        return Imported(self.rows, self.unanswered, tuple(self.told), self.names)


def checked_row(raw: RawRow, owner: ImportOwner) -> TrainingExample:
    """Return the canonical row of a raw one. Raises `Invalid` with what is wrong, in the reader's words."""
    if raw.family not in tuple(Family):
        raise Invalid(f"there is no family {raw.family!r}: {', '.join(Family)}")
    try:
        messages = tuple(Message.model_validate(message) for message in raw.messages)
        return TrainingExample(
            example_id=example_id(messages, None),
            organization_id=owner.organization_id,
            dealership_id=owner.dealership_id,
            family=Family(raw.family),
            messages=messages,
            trained_turns=(len(messages) - 1,),
            group_keys=GroupKeys(
                customer=hidden("customer", raw.customer, owner.index_key),
                conversation=raw.conversation and hidden("conversation", raw.conversation, owner.index_key),
                vehicle=raw.vehicle and hidden("vehicle", raw.vehicle, owner.index_key),
                lead=raw.lead and hidden("lead", raw.lead, owner.index_key),
            ),
            source=raw.source,
            label=raw.label,
            consent_id=owner.consent_id,
            licence=owner.licence,
            created_at=raw.created_at,
        )
    except ValidationError as error:
        raise Invalid(problems(error).removeprefix("file: ")) from error


def hidden(kind: str, value: str, index_key: bytes) -> str:
    """Return a group key: what a customer's system calls somebody, keyed so that nobody can read or guess it."""
    return hmac.digest(index_key, f"{kind}:{' '.join(value.lower().split())}".encode(), "sha256").hex()
