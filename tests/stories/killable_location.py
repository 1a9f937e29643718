"""A code location as the shipped one, composed for dying: a worker kills itself with SIGKILL at a named point.

The points lie between the parts, in wrappers that only this composition puts there.
"""

import json
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import dagster as dg

from auterity_dagster.automatrix.compliance.rows import Channel
from auterity_dagster.automatrix.expression import CelEngine
from auterity_dagster.automatrix.ports import (
    ChatCall,
    ChatModel,
    ChatReply,
    EffectRecord,
    EffectState,
    Journal,
    Message,
    Messenger,
    Receipt,
)
from auterity_dagster.automatrix.template import load_templates
from auterity_dagster.clock import SystemClock
from auterity_dagster.jobs.automatrix import BATCHES, template_job
from auterity_dagster.resources.automatrix import AutomatrixResource
from auterity_dagster.resources.sandbox_messenger import SandboxMessenger

ROOT = Path(__file__).parent.parent.parent
KILL_AT = "AUTERITY_TEST_KILL_AT"
LEDGER = "AUTERITY_TEST_LEDGER"
MESSENGER = "AUTERITY_TEST_MESSENGER"


class Failpoint:
    """`name:n` dies the n-th time that `name` is reached."""

    def __init__(self, wanted: str) -> None:
        self._name, _, count = wanted.partition(":")
        self._left = int(count or 0)

    def reach(self, name: str) -> None:
        if name == self._name:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


class KillableChat:
    """Answers at once, and dies before or after."""

    def __init__(self, point: Failpoint) -> None:
        self._point = point

    def complete(self, call: ChatCall) -> ChatReply:
        self._point.reach("before_answer")
        reply = ChatReply("The 2026 Honda CR-V EX is here. Saturday 10:00?", "sandbox-small", 100, 20, 12_345)
        self._point.reach("after_answer")
        return reply


class KillableMessenger:
    """Hands on to another messenger, and dies before or after."""

    def __init__(self, inner: Messenger, point: Failpoint) -> None:
        self._inner, self._point = inner, point

    def is_live(self, organization_id: UUID, channel: Channel) -> bool:
        return self._inner.is_live(organization_id, channel)

    def repeats_safely(self, message: Message) -> bool:
        return self._inner.repeats_safely(message)

    def send(self, message: Message, key: str) -> Receipt:
        self._point.reach("after_intend")
        receipt = self._inner.send(message, key)
        self._point.reach("after_send")
        return receipt

    def lookup(self, message: Message, key: str) -> Receipt | None:
        return self._inner.lookup(message, key)


class ForgetfulMessenger:
    """Delivers as often as it is called, as providers without idempotency keys do; it can be asked what it did."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / "sent.jsonl"

    def is_live(self, organization_id: UUID, channel: Channel) -> bool:
        return False

    def repeats_safely(self, message: Message) -> bool:
        return False

    def send(self, message: Message, key: str) -> Receipt:
        line = json.dumps({"key": key, "message_id": f"forgetful-{key}"}) + "\n"
        with self._path.open("a") as record:
            record.write(line)
            record.flush()
            os.fsync(record.fileno())
        return Receipt(f"forgetful-{key}")

    def lookup(self, message: Message, key: str) -> Receipt | None:
        sent = self._path.read_text().splitlines() if self._path.exists() else []
        return Receipt(f"forgetful-{key}") if any(json.loads(line)["key"] == key for line in sent) else None


class KillableJournal:
    """Hands on to the real journal, and dies after a claim or before the last write."""

    def __init__(self, inner: Journal, point: Failpoint) -> None:
        self._inner, self._point = inner, point

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def claim(self, **arguments: Any) -> Any:
        claims = self._inner.claim(**arguments)
        self._point.reach("after_claim")
        return claims

    def write(self, snapshot: Any, entries: Sequence[Any], **rest: Any) -> None:
        if any(type(entry).__name__ == "Finished" for entry in entries):
            self._point.reach("before_finish")
        self._inner.write(snapshot, entries, **rest)


class WithoutLedger(KillableJournal):
    """The negative control: every attempt believes that it is the first to send."""

    def begin_step(self, snapshot: Any, started: Any, *, effect: Any, **rest: Any) -> EffectRecord | None:
        record = self._inner.begin_step(snapshot, started, effect=effect, **rest)
        return None if record is None else replace(record, state=EffectState.INTENDED, is_new=True, provider_ref=None)


class KillableResource(AutomatrixResource):
    """The shipped composition with wrappers around its parts."""

    kill_at: str
    ledger: str
    messenger_kind: str

    def compose(self) -> Any:
        object.__setattr__(self, "_point", Failpoint(self.kill_at))
        return super().compose()

    def journal(self) -> Journal:
        kind: Any = KillableJournal if self.ledger == "yes" else WithoutLedger
        return kind(super().journal(), self._point)

    def chat(self) -> ChatModel:
        return KillableChat(self._point)

    def messenger(self) -> Messenger:
        folder = Path(self.data_dir) / "messenger"
        inner: Mapping[str, Any] = {
            "sandbox": lambda: SandboxMessenger(folder, SystemClock()),
            "forgetful": lambda: ForgetfulMessenger(folder),
        }
        return KillableMessenger(inner[self.messenger_kind](), self._point)


def workflows() -> dg.Definitions:
    """The jobs that ship, over the killable composition."""
    resource = KillableResource(
        database_url=dg.EnvVar("AUTERITY_DATABASE_URL"),
        gateway_url="http://127.0.0.1:1",
        secrets_dir="",
        data_dir=dg.EnvVar("AUTERITY_DATA_DIR"),
        config_dir=str(ROOT / "config"),
        kill_at=dg.EnvVar(KILL_AT),
        ledger=dg.EnvVar(LEDGER),
        messenger_kind=dg.EnvVar(MESSENGER),
    )
    templates = load_templates(ROOT / "config" / "workflows", CelEngine())
    jobs = [template_job(template) for template in templates.values()]
    return dg.Definitions(jobs=jobs, resources={"automatrix": resource, BATCHES: dg.mem_io_manager})
