"""The messenger that records and never sends: an append-only file outside PostgreSQL, synced before it answers."""

import fcntl
import json
import os
from collections.abc import Generator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO
from uuid import UUID

from auterity_dagster.automatrix.compliance.rows import Channel
from auterity_dagster.automatrix.ports import Message, Receipt
from auterity_dagster.clock import Clock

LABEL = "SANDBOX: recorded, never sent"


class SandboxMessenger:
    """`automatrix.ports.Messenger` over `sent.jsonl`; one line a message, one message a key.

    Every process of the installation may use the same folder: a lock on the file orders them.
    """

    def __init__(self, folder: Path, clock: Clock) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._path = folder / "sent.jsonl"
        self._clock = clock
        self._known: dict[str, str] = {}
        self._read_to = 0

    def is_live(self, organization_id: UUID, channel: Channel) -> bool:
        return False

    def repeats_safely(self, message: Message) -> bool:
        return True

    def send(self, message: Message, key: str) -> Receipt:
        """Record the message; with a key that is known already, return the first receipt and record nothing."""
        with self._locked() as record:
            if key not in self._known:
                self._append(record, message, key)
            return Receipt(self._known[key])

    def lookup(self, message: Message, key: str) -> Receipt | None:
        with self._locked():
            known = self._known.get(key)
        return None if known is None else Receipt(known)

    @contextmanager
    def _locked(self) -> Generator[BinaryIO]:
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "r+b", buffering=0) as record:
            fcntl.flock(record, fcntl.LOCK_EX)
            self._read_new(record)
            yield record

    def _read_new(self, record: BinaryIO) -> None:
        """Learn the keys that were added since; a line without its end was cut off before anybody got a receipt."""
        record.seek(self._read_to)
        unread = record.read()
        whole, torn = unread[: unread.rfind(b"\n") + 1], unread[unread.rfind(b"\n") + 1 :]
        for line in whole.splitlines():
            entry = json.loads(line)
            self._known[entry["key"]] = entry["message_id"]
        self._read_to += len(whole)
        if torn:
            record.truncate(self._read_to)

    def _append(self, record: BinaryIO, message: Message, key: str) -> None:
        message_id = f"sandbox-{sha256(key.encode()).hexdigest()[:20]}"
        entry = {
            "label": LABEL,
            "key": key,
            "message_id": message_id,
            "at": self._clock.now().isoformat(),
            "organization_id": str(message.organization_id),
            "dealership_id": str(message.dealership_id),
            "channel": message.channel,
            "address": message.address,
            "subject": message.subject,
            "text": message.text,
            "purpose": message.purpose,
        }
        line = json.dumps(entry, ensure_ascii=False).encode() + b"\n"
        record.write(line)
        os.fsync(record.fileno())
        self._known[key] = message_id
        self._read_to += len(line)
