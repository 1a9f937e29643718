"""The sandbox messenger's own record: one line a key, whole lines only, whoever writes."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

from auterity_dagster.automatrix.ports import Message
from auterity_dagster.resources.sandbox_messenger import LABEL, SandboxMessenger
from tests.fakes.clock import FakeClock

MESSAGE = Message(uuid4(), uuid4(), "sms", "+13125550141", None, "Hi", "inquiry_reply")


def record(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "sent.jsonl").read_text().splitlines()]


def test_a_message_is_recorded_and_labelled_as_not_sent(tmp_path: Path) -> None:
    receipt = SandboxMessenger(tmp_path, FakeClock()).send(MESSAGE, "k1")

    (entry,) = record(tmp_path)
    assert (entry["label"], entry["key"], entry["message_id"]) == (LABEL, "k1", receipt.message_id)
    assert (tmp_path / "sent.jsonl").stat().st_mode & 0o077 == 0


def test_a_key_is_recorded_once_by_whichever_process(tmp_path: Path) -> None:
    messengers = [SandboxMessenger(tmp_path, FakeClock()) for _ in range(4)]

    with ThreadPoolExecutor(8) as pool:
        receipts = list(pool.map(lambda n: messengers[n % 4].send(MESSAGE, f"k{n % 10}"), range(40)))

    assert sorted(entry["key"] for entry in record(tmp_path)) == sorted(f"k{n}" for n in range(10))
    assert len({receipt.message_id for receipt in receipts}) == 10


def test_a_line_that_was_cut_off_was_never_acknowledged(tmp_path: Path) -> None:
    SandboxMessenger(tmp_path, FakeClock()).send(MESSAGE, "k1")
    with (tmp_path / "sent.jsonl").open("a") as torn:
        torn.write('{"key": "k2", "mess')
    messenger = SandboxMessenger(tmp_path, FakeClock())

    assert messenger.lookup(MESSAGE, "k2") is None
    messenger.send(MESSAGE, "k2")

    assert [entry["key"] for entry in record(tmp_path)] == ["k1", "k2"]
