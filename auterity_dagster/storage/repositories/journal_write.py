"""The rows of one write of the journal: collected while its entries are read, then written a table at a time."""

from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from sqlalchemy import insert as plain_insert
from sqlalchemy import update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from auterity_dagster.automatrix.execution import ExecutionState, StepStarted, StepStatus
from auterity_dagster.automatrix.ports import Snapshot
from auterity_dagster.storage.repositories.outbox import execution_topic
from auterity_dagster.storage.tables.workflows import OutboxRow, StepResultRow

_ATTEMPT = ("organization_id", "execution_id", "path", "attempt")
_FIRST = frozenset({*_ATTEMPT, "kind", "input_digest", "started_at", "starts"})
"""What stays as the first worker wrote it when another one begins the same attempt; `starts` is counted up."""


class JournalWrite:
    """What one transaction writes about one execution; `after` is the state with all its entries applied.

    An attempt that begins and ends in it is one INSERT. Who reads or changes step results in the transaction calls
    `write_steps` first; `finish` is called at the end.
    """

    def __init__(self, session: Session, snapshot: Snapshot, *, after: ExecutionState, now: datetime) -> None:
        self.session = session
        self.snapshot = snapshot
        self.after = after
        self.now = now
        self._begun: dict[tuple[str, int], dict[str, Any]] = {}
        self._announcements: list[dict[str, Any]] = []

    def begin(self, started: StepStarted) -> None:
        """An attempt begins, or one more worker begins it."""
        self._add(started.path, started.attempt, state="running", starts=1, input_digest=started.input_digest)

    def skip(self, path: str) -> None:
        """A step is over without an attempt."""
        self._add(path, 0, state="skipped", starts=0, finished_at=self.now)

    def change(self, path: str, values: Mapping[str, Any]) -> None:
        """Change the current attempt at a step."""
        attempt = self.after.steps[path].attempt
        known = self._begun.get((path, attempt))
        if known is not None:
            known.update({name: value for name, value in values.items() if value is not None})
            return
        claim = self.snapshot.claim
        self.session.execute(
            update(StepResultRow)
            .where(
                StepResultRow.organization_id == claim.organization_id,
                StepResultRow.execution_id == claim.execution_id,
                StepResultRow.path == path,
                StepResultRow.attempt == attempt,
            )
            .values(**values)
        )

    def announce(self, topic: str, kind: str, payload: Mapping[str, Any]) -> None:
        """Tell whoever listens, with the commit."""
        claim = self.snapshot.claim
        shown = {
            "execution_id": str(claim.execution_id),
            "dealership_id": str(self.snapshot.dealership_id),
            "at": self.now.isoformat(),
            **payload,
        }
        self._announcements.append(
            {
                "organization_id": claim.organization_id,
                "id": uuid4(),
                "topic": topic,
                "type": kind,
                "payload": shown,
                # The relay numbers by this time: what one transaction tells keeps its order.
                "created_at": self.now + timedelta(microseconds=len(self._announcements)),
            }
        )

    def announce_step(self, path: str, state: StepStatus, more: Mapping[str, Any]) -> None:
        """Tell whoever listens to the execution what became of a step."""
        topic = execution_topic(self.snapshot.claim.execution_id)
        self.announce(topic, "execution.step", {"path": path, "state": state, **more})

    def write_steps(self) -> None:
        """Write the attempts that began; rows with the same columns go together."""
        alike: dict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
        for values in self._begun.values():
            alike[tuple(sorted(values))].append(values)
        self._begun.clear()
        for columns, rows in alike.items():
            new = insert(StepResultRow)
            changed = {name: new.excluded[name] for name in columns if name not in _FIRST}
            again = new.on_conflict_do_update(
                index_elements=list(_ATTEMPT), set_={**changed, "starts": StepResultRow.starts + 1}
            )
            self.session.execute(again, rows)

    def finish(self) -> None:
        """Write what is collected; nothing is added afterwards."""
        self.write_steps()
        if self._announcements:
            self.session.execute(plain_insert(OutboxRow), self._announcements)

    def _add(self, path: str, attempt: int, **values: Any) -> None:
        claim = self.snapshot.claim
        self._begun[path, attempt] = {
            "organization_id": claim.organization_id,
            "execution_id": claim.execution_id,
            "path": path,
            "attempt": attempt,
            "kind": self.snapshot.workflow.at(path).step.kind,
            "fence": claim.fence,
            "started_at": self.now,
            **values,
        }
