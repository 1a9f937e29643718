"""From a webhook to its first step, and what the whole stack carries: `auterity up` as it ships, and a lead sender.

Run: `python benchmarks/webhook.py [steady] [backlog]`. Prints one JSON object a part. `steady` posts a lead every two
seconds and then four a second; `backlog` posts 2,000 leads of a ten-step workflow at once.
"""

import asyncio
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from sqlalchemy import func, select

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from workflow_location import ten_steps_document  # noqa: E402
from workflows import percentiles  # noqa: E402

from auterity_dagster.embedded import background  # noqa: E402
from auterity_dagster.storage.database import BlockingDatabase  # noqa: E402
from auterity_dagster.storage.tables.workflows import ExecutionRow, StepResultRow  # noqa: E402
from tests.fakes.lead_sender import LeadSender  # noqa: E402
from tests.fakes.lead_site import LeadSite, customer_name, lead_body, lead_site  # noqa: E402

CLIENTS = 8
PATIENCE_S = 900.0


@contextmanager
def running_site() -> Iterator[tuple[LeadSite, BlockingDatabase]]:
    """The whole stack with a dealership whose workflow has ten steps without a model."""
    folder = Path(tempfile.mkdtemp(prefix="auterity-bench-"))
    folder.chmod(0o711)
    try:
        running = background.start(["--free-ports"], data_dir=folder)
        site = lead_site(running, ten_steps_document())
        database = BlockingDatabase(site.database_url, pool_size=2)
        yield site, database
        database.close()
    finally:
        background.stop(folder)
        shutil.rmtree(folder)


async def post(site: LeadSite, numbers: Sequence[int], *, a_second: float | None) -> dict[str, datetime]:
    """Post leads, at a rate or as fast as eight clients can; when each customer's was sent."""
    sent: dict[str, datetime] = {}
    left, begun = iter(enumerate(numbers)), time.monotonic()

    async def one_client(sender: LeadSender) -> None:
        for position, number in left:
            if a_second is not None:
                await asyncio.sleep(max(0.0, begun + position / a_second - time.monotonic()))
            sent[customer_name(number)] = now = datetime.now(UTC)
            (await sender.post(lead_body(number), at=now, message_id=f"msg_{number:06}")).raise_for_status()

    async with httpx.AsyncClient(base_url=site.api, timeout=60, trust_env=False) as client:
        sender = LeadSender(client, site.source_id, site.secret, "application/json")
        await asyncio.gather(*(one_client(sender) for _client in range(CLIENTS)))
    return sent


def until_finished(database: BlockingDatabase, site: LeadSite, count: int) -> None:
    """Wait until as many executions are over."""
    query = select(func.count()).select_from(ExecutionRow).where(ExecutionRow.state == "succeeded")
    deadline = time.monotonic() + PATIENCE_S
    while True:
        with database.begin(site.organization_id) as session:
            found = session.scalar(query) or 0
        if found >= count:
            return
        assert time.monotonic() < deadline, f"{found} of {count} finished"
        time.sleep(0.5)


def to_first_step(database: BlockingDatabase, site: LeadSite, sent: dict[str, datetime]) -> dict[str, float]:
    """Seconds from sending to the first step's beginning."""
    with database.begin(site.organization_id) as session:
        customers: dict[UUID, str] = {
            row.id: row.event["data"]["customer_name"]
            for row in session.execute(select(ExecutionRow.id, ExecutionRow.event))
        }
        first = session.execute(
            select(StepResultRow.execution_id, func.min(StepResultRow.started_at)).group_by(StepResultRow.execution_id)
        ).all()
    begun = {customers[execution_id]: at for execution_id, at in first}
    return percentiles([(begun[customer] - at).total_seconds() for customer, at in sent.items()], 2)


def steady() -> dict[str, Any]:
    """Webhook to first step at two rates: each lead alone, and a stream of them."""
    with running_site() as (site, database):
        asyncio.run(post(site, range(1), a_second=1))
        until_finished(database, site, 1)
        slow = asyncio.run(post(site, range(1, 41), a_second=0.5))
        until_finished(database, site, 41)
        apart = to_first_step(database, site, slow)
        fast = asyncio.run(post(site, range(41, 281), a_second=4))
        until_finished(database, site, 281)
        together = to_first_step(database, site, fast)
    return {"webhook_to_first_step_s": {"one_every_2_s": apart, "four_a_second": together}}


def backlog(count: int = 2_000) -> dict[str, Any]:
    """How long the stack works on leads that came as fast as the API takes them."""
    with running_site() as (site, database):
        begun = time.monotonic()
        asyncio.run(post(site, range(count), a_second=None))
        posted_s = time.monotonic() - begun
        until_finished(database, site, count)
        finished_s = time.monotonic() - begun
    return {
        "leads": count,
        "taken_a_second": round(count / posted_s, 1),
        "finished_a_minute_from_the_first_post": round(count / finished_s * 60),
    }


PARTS: dict[str, Callable[[], dict[str, Any]]] = {"steady": steady, "backlog": backlog}


def main(wanted: Sequence[str]) -> None:
    for name in [name for name in os.environ if name.startswith("AUTERITY_")]:
        del os.environ[name]
    for name in wanted or PARTS:
        load = os.getloadavg()[0]
        print(json.dumps({name: PARTS[name](), "cores": os.cpu_count(), "load_before": round(load, 1)}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
