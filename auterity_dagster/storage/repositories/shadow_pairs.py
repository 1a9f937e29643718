"""Pairs of answers, of what was served and of what a shadow deployment said to the same request."""

import hmac

import structlog
from sqlalchemy import insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from auterity_dagster.identity.derivation import derived_secret
from auterity_dagster.relaycore.ports import ShadowPair
from auterity_dagster.storage.database import Database
from auterity_dagster.storage.repositories.shadow_texts import text_row
from auterity_dagster.storage.tables.steering import ShadowPairRow, ShadowTextRow

_log = structlog.get_logger(__name__)


class PostgresShadowPairs:
    """Keeps each pair with digests, under a secret of the organization's, in place of what was said.

    The texts of a pair that is to be compared stand beside it, sealed, until then.
    """

    def __init__(self, database: Database, *, pepper: bytes) -> None:
        self._database, self._pepper = database, pepper

    async def add(self, pair: ShadowPair) -> None:
        texts = text_row(pair, pepper=self._pepper)
        try:
            async with self._database.begin(pair.organization_id) as session:
                await session.execute(insert(ShadowPairRow).values(self._row(pair)))
                if texts is not None:
                    await session.execute(insert(ShadowTextRow).values(texts))
        except (DBAPIError, PoolTimeout) as error:
            _log.warning("shadow_pair_lost", reason=type(error).__name__)

    def _row(self, pair: ShadowPair) -> dict[str, object]:
        secret = derived_secret(self._pepper, label="shadow pairs", parts=(pair.organization_id.bytes,))
        served, shadow = pair.served, pair.shadow
        return {
            "organization_id": pair.organization_id,
            "shadow_request_id": pair.shadow_request_id,
            "request_id": pair.request_id,
            "rule": pair.rule,
            "task": pair.task,
            "served_deployment_id": served.deployment_id,
            "served_artefact_digest": served.artefact_digest,
            "served_answer_digest": _digest(secret, served.said),
            "served_latency_ms": served.latency_ms,
            "served_cost_nusd": served.cost_nusd,
            "shadow_deployment_id": shadow.deployment_id,
            "shadow_artefact_digest": shadow.artefact_digest,
            "shadow_outcome": shadow.outcome,
            "shadow_answer_digest": _digest(secret, shadow.said),
            "shadow_latency_ms": shadow.latency_ms,
            "shadow_cost_nusd": shadow.cost_nusd,
        }


def _digest(secret: bytes, said: bytes | None) -> bytes | None:
    return None if said is None else hmac.digest(secret, said, "sha256")
