"""The audit log's chain: what an entry's hash covers, and how a chain is checked.

Each entry's hash covers the one before it, so that an edited, removed, inserted or reordered entry breaks the chain at
a place that can be named. A removed end, or a chain rebuilt whole, is seen against a head that was noted elsewhere.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from auterity_dagster.errors import Invalid
from auterity_dagster.identity.derivation import length_prefixed

FORMAT = b"auterity audit 1"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """One thing that happened: who did what to which subject. Ids and digests, never personal data."""

    organization_id: UUID
    sequence: int
    recorded_at: datetime
    actor_kind: str
    actor_id: UUID | None
    action: str
    subject: str
    details: Mapping[str, Any]
    previous_hash: bytes


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """A record with its hash, as stored."""

    record: AuditRecord
    entry_hash: bytes


@dataclass(frozen=True, slots=True)
class AuditHead:
    """The end of a chain: how many entries it has and the last one's hash; worth noting where nobody can rewrite it."""

    sequence: int
    entry_hash: bytes


@dataclass(frozen=True, slots=True)
class AuditVerdict:
    """What a check found: the head that was reached, and the first entry that is not right, with the reason."""

    head: AuditHead
    broken_sequence: int | None
    reason: str | None

    @property
    def is_intact(self) -> bool:
        """True if every entry is as it was written, and the noted head is in the chain."""
        return self.broken_sequence is None


def genesis(organization_id: UUID) -> AuditHead:
    """Return the head of an organization's empty chain."""
    return AuditHead(sequence=0, entry_hash=hashlib.sha256(length_prefixed([FORMAT, organization_id.bytes])).digest())


def record_hash(record: AuditRecord) -> bytes:
    """Return the SHA-256 over every field, length-prefixed; time counts as whole microseconds. Raises `Invalid`."""
    microseconds = (record.recorded_at - _EPOCH) // timedelta(microseconds=1)
    fields = [
        FORMAT,
        record.organization_id.bytes,
        str(record.sequence).encode(),
        str(microseconds).encode(),
        record.actor_kind.encode(),
        record.actor_id.bytes if record.actor_id is not None else b"",
        record.action.encode(),
        record.subject.encode(),
        canonical(record.details).encode(),
        record.previous_hash,
    ]
    return hashlib.sha256(length_prefixed(fields)).digest()


def canonical(details: Mapping[str, Any]) -> str:
    """Write details so that storing them as JSONB and reading them back gives the same text.

    Raises `Invalid` for fractions, which PostgreSQL writes in its own way, and for anything that is not JSON.
    """
    _require_exact(details)
    return json.dumps(details, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def verify_chain(
    entries: Iterable[AuditEntry], *, organization_id: UUID, noted: AuditHead | None = None
) -> AuditVerdict:
    """Walk a chain in order of sequence and name the first entry that is not right.

    `noted` is a head seen earlier: without it a removed end and a chain rebuilt from its start go unseen.
    """
    head = genesis(organization_id)
    for entry in entries:
        reason = _fault(entry, head=head, organization_id=organization_id)
        if reason is None and noted is not None and entry.record.sequence == noted.sequence:
            reason = "differs from the noted head" if entry.entry_hash != noted.entry_hash else None
        if reason is not None:
            return AuditVerdict(head=head, broken_sequence=head.sequence + 1, reason=reason)
        head = AuditHead(sequence=entry.record.sequence, entry_hash=entry.entry_hash)
    if noted is not None and head.sequence < noted.sequence:
        return AuditVerdict(head=head, broken_sequence=head.sequence + 1, reason="missing, though it was noted")
    return AuditVerdict(head=head, broken_sequence=None, reason=None)


def _fault(entry: AuditEntry, *, head: AuditHead, organization_id: UUID) -> str | None:
    if entry.record.sequence != head.sequence + 1:
        return f"missing: the next entry is {entry.record.sequence}"
    if entry.record.organization_id != organization_id:
        return "belongs to another organization"
    if entry.record.previous_hash != head.entry_hash:
        return "does not follow the entry before it"
    try:
        expected = record_hash(entry.record)
    except Invalid:
        return "its details are nothing that this log writes"
    return None if expected == entry.entry_hash else "its content does not have its hash"


def _require_exact(value: object) -> None:
    if isinstance(value, Mapping):
        for name, item in value.items():  # pyright: ignore[reportUnknownVariableType]
            if not isinstance(name, str):
                raise Invalid("audit details have names that are text", field="details")
            _require_exact(item)  # pyright: ignore[reportUnknownArgumentType]
    elif isinstance(value, list | tuple):
        for item in value:  # pyright: ignore[reportUnknownVariableType]
            _require_exact(item)  # pyright: ignore[reportUnknownArgumentType]
    elif not (value is None or isinstance(value, str | int)) or (isinstance(value, str) and "\x00" in value):
        raise Invalid("audit details are text, whole numbers, truth values and lists of these", field="details")
