"""Machine time in the organization's books: held before a stage runs, settled with the seconds it took."""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import NAMESPACE_URL, UUID, uuid4, uuid5

import structlog

from auterity_dagster.money import NanoUsd
from auterity_dagster.neuroweaver.machine_price import cost_of
from auterity_dagster.relaycore.ports import Hold, HoldRequest
from auterity_dagster.storage.repositories.ledger import LedgerSettings, open_ledger
from auterity_dagster.storage.repositories.ledger_closing import Closing, close_holds
from auterity_dagster.storage.repositories.ledger_connections import AWAY, LedgerConnections

_log = structlog.get_logger(__name__)
PURPOSE = "training"
TRAINING_KEY = uuid5(NAMESPACE_URL, "auterity:training")
"""Stands in a hold where a call's API key does: no key can be frozen or revoked by what training costs."""

_GRACE_S = 3600
_SETTINGS = LedgerSettings(connections=1, connect_within_s=5.0, answer_within_s=10.0)


@dataclass
class MachineTime:
    """The seconds that a stage's processes took; whoever runs them adds to it."""

    nusd_per_hour: NanoUsd = 0
    seconds: float = 0.0

    @property
    def cost_nusd(self) -> NanoUsd:
        """What they cost."""
        return cost_of(self.seconds, nusd_per_hour=self.nusd_per_hour)


@contextmanager
def machine_time(
    url: str,
    *,
    organization_id: UUID,
    device_class: str,
    stage_key: str,
    nusd_per_hour: NanoUsd,
    cap_s: int,
    allowance: str | None = None,
) -> Generator[MachineTime]:
    """Hold what `cap_s` seconds cost, and settle what the seconds that were added cost, also after a failure.

    With an `allowance` the budget of that name must have room too. Raises `BudgetExceeded` where one has none, and
    `Unavailable` where the ledger does not answer. If this process dies, the reaper books the bound as unknown an hour
    after the stage's time is up.
    """
    bound_nusd = cost_of(cap_s, nusd_per_hour=nusd_per_hour)
    request = HoldRequest(
        organization_id=organization_id,
        dealership_id=None,
        key_id=TRAINING_KEY,
        user_id=None,
        purpose=PURPOSE,
        tags=(),
        request_id=uuid4(),
        attempt=1,
        deployment_id=f"{PURPOSE}/{device_class}",
        price_key=f"machine/{device_class}",
        price_digest=stage_key,
        amount_nusd=bound_nusd,
        prompt_nusd=bound_nusd,
        max_tokens=0,
        expires_in_s=cap_s + _GRACE_S,
        allowance=allowance,
    )
    hold = asyncio.run(_hold(url, request))
    time = MachineTime(nusd_per_hour)
    try:
        yield time
    finally:
        asyncio.run(_settle(url, hold, time.cost_nusd))


async def _hold(url: str, request: HoldRequest) -> Hold:
    async with open_ledger(url, _SETTINGS) as ledger:
        return await ledger.hold(request)


async def _settle(url: str, hold: Hold, cost_nusd: NanoUsd) -> None:
    connections = LedgerConnections(
        url, size=1, connect_within_s=_SETTINGS.connect_within_s, answer_within_s=_SETTINGS.answer_within_s
    )
    try:
        # No usage row: machine time is no answer of a model, and would stand among them with no tokens.
        closing = Closing(hold.id, "settled", cost_nusd, None)
        await close_holds(connections, hold.request.organization_id, [closing], closed_by="caller")
    except AWAY as error:
        _log.warning("training.not_settled", hold_id=str(hold.id), error=str(error), then="the reaper books the bound")
    finally:
        await connections.close()
