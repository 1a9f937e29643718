"""Places in the ledger's work at which a process kills itself; composed in by a test's own worker, nowhere else."""

import asyncio
import os
import signal
from uuid import UUID

from auterity_dagster.storage.repositories import ledger_statements as statements
from auterity_dagster.storage.repositories.ledger_connections import LedgerConnections
from auterity_dagster.storage.repositories.ledger_pipeline import Row, Statement

STATEMENTS = {"hold": statements.HOLD, "settle": statements.CLOSE, "reap": statements.CLOSE}
AROUND = ("before", "during", "after")
FAILPOINTS = (
    *(f"{where} {work}" for work in ("hold", "settle", "reap") for where in AROUND),
    "hold answered",
    "provider billed",
    "drain",
)
SENT_S = 0.002
"""Enough for the bytes to leave, not for the answer to be read: the process dies in between."""


def die() -> None:
    """End as if the power were cut."""
    os.kill(os.getpid(), signal.SIGKILL)


class DeadlyConnections(LedgerConnections):
    """Kills the process around the n-th transaction of the failpoint's kind, once it is armed."""

    failpoint = ""
    at = 1
    is_armed = True

    async def transaction(self, organization_id: UUID, *wanted: Statement) -> list[list[Row]]:
        where, _, work = type(self).failpoint.partition(" ")
        if not self.is_armed or STATEMENTS.get(work, "") not in [text for text, _ in wanted]:
            return await super().transaction(organization_id, *wanted)
        type(self).at -= 1
        if type(self).at > 0:
            return await super().transaction(organization_id, *wanted)
        if where == "before":
            die()
        if where == "during":
            sending = asyncio.create_task(super().transaction(organization_id, *wanted))
            await asyncio.wait({sending}, timeout=SENT_S)
            die()
        rows = await super().transaction(organization_id, *wanted)
        die()
        return rows
