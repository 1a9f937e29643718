"""The texts of shadow pairs that wait for a judge: sealed when kept, opened to be compared, deleted with the result."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import structlog
from cryptography.exceptions import InvalidTag
from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from auterity_dagster.relaycore.ports import ShadowPair
from auterity_dagster.storage.sealing import Cell, seal, unseal
from auterity_dagster.storage.tables.steering import ShadowPairRow, ShadowTextRow

KEPT_FOR = timedelta(days=7)
"""What no judge has read until then is deleted unread."""

MAX_BYTES = 1 << 18

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class WaitingPair:
    """A pair whose two answers wait to be compared: `messages` as (role, text), `served` and `shadow` as texts."""

    shadow_request_id: UUID
    request_id: UUID
    task: str | None
    served_artefact_digest: str
    messages: tuple[tuple[str, str], ...]
    served: str
    shadow: str


def text_row(pair: ShadowPair, *, pepper: bytes) -> dict[str, object] | None:
    """Return a pair's texts as a row, or None: they are not to be kept, or one of the answers is more than a text."""
    if pair.asked is None or pair.served.said is None or pair.shadow.said is None:
        return None
    asked, served, shadow = (json.loads(one) for one in (pair.asked, pair.served.said, pair.shadow.said))
    if served["calls"] or shadow["calls"]:
        return None
    texts = json.dumps({"asked": asked, "served": served["text"], "shadow": shadow["text"]}).encode()
    if len(texts) > MAX_BYTES:
        return None
    cell = _cell(pair.organization_id, pair.shadow_request_id)
    return {
        "organization_id": pair.organization_id,
        "shadow_request_id": pair.shadow_request_id,
        "shadow_artefact_digest": pair.shadow.artefact_digest,
        "sealed": seal(pepper, texts, cell=cell),
    }


def count_waiting(session: Session, *, shadow_artefact_digests: Sequence[str]) -> int:
    """Return how many pairs of these artefacts wait to be compared."""
    waiting = ShadowTextRow.shadow_artefact_digest.in_(shadow_artefact_digests)
    return session.scalar(select(func.count()).select_from(ShadowTextRow).where(waiting)) or 0


def waiting_pairs(session: Session, *, shadow_artefact_digest: str, pepper: bytes, limit: int) -> list[WaitingPair]:
    """Return pairs of an artefact that wait to be compared, oldest first. What does not open is passed over."""
    rows = session.execute(
        select(ShadowTextRow, ShadowPairRow)
        .join(
            ShadowPairRow,
            (ShadowPairRow.organization_id == ShadowTextRow.organization_id)
            & (ShadowPairRow.shadow_request_id == ShadowTextRow.shadow_request_id),
        )
        .where(ShadowTextRow.shadow_artefact_digest == shadow_artefact_digest)
        .order_by(ShadowTextRow.kept_at, ShadowTextRow.shadow_request_id)
        .limit(limit)
    )
    found = [_opened(text, pair, pepper) for text, pair in rows]
    return [one for one in found if one is not None]


def forget(session: Session, shadow_request_ids: Sequence[UUID]) -> None:
    """Delete the texts of these pairs; the pairs themselves hold none."""
    session.execute(delete(ShadowTextRow).where(ShadowTextRow.shadow_request_id.in_(shadow_request_ids)))


def forget_others(session: Session, *, shadow_artefact_digests: Sequence[str], now: datetime) -> int:
    """Delete texts that nobody will compare: of other artefacts than these, and those that are too old."""
    useless = ShadowTextRow.shadow_artefact_digest.not_in(shadow_artefact_digests)
    is_old = ShadowTextRow.kept_at < now - KEPT_FOR
    gone = session.scalars(delete(ShadowTextRow).where(useless | is_old).returning(ShadowTextRow.shadow_request_id))
    return len(gone.all())


def _opened(text: ShadowTextRow, pair: ShadowPairRow, pepper: bytes) -> WaitingPair | None:
    try:
        texts = json.loads(unseal(pepper, text.sealed, cell=_cell(text.organization_id, text.shadow_request_id)))
    except InvalidTag:
        _log.error("shadow_text_does_not_open", shadow_request_id=str(text.shadow_request_id))
        return None
    return WaitingPair(
        shadow_request_id=text.shadow_request_id,
        request_id=pair.request_id,
        task=pair.task,
        served_artefact_digest=pair.served_artefact_digest,
        messages=tuple((one["role"], one["content"]) for one in texts["asked"]),
        served=texts["served"],
        shadow=texts["shadow"],
    )


def _cell(organization_id: UUID, shadow_request_id: UUID) -> Cell:
    return Cell(organization_id, "shadow_text", "sealed", shadow_request_id)
