"""Raising an open hold: the same guard as for a new one, in the windows that it stands in."""

from dataclasses import replace

import psycopg
import structlog

from auterity_dagster.money import NanoUsd
from auterity_dagster.relaycore.ports import Hold
from auterity_dagster.storage.repositories import ledger_statements as statements
from auterity_dagster.storage.repositories.ledger_connections import AWAY, LedgerConnections

_log = structlog.get_logger(__name__)


async def extended(connections: LedgerConnections, hold: Hold, *, more_nusd: NanoUsd) -> Hold | None:
    """Hold so much more, or nothing; return the larger hold once it is committed.

    Where the answer is lost the hold may have grown all the same: it is given back when the hold closes.
    """
    organization_id = hold.request.organization_id
    parameters = {"organization_id": organization_id, "hold_id": hold.id, "more_nusd": more_nusd}
    try:
        (((is_extended, _),),) = await connections.transaction(organization_id, (statements.EXTEND, parameters))
    except AWAY:
        return None
    except psycopg.Error:
        _log.exception("ledger.hold_not_extended", hold_id=str(hold.id))
        return None
    if not is_extended:
        return None
    return replace(hold, request=replace(hold.request, amount_nusd=hold.request.amount_nusd + more_nusd))
