"""Making holds in batches: one guarded statement admits a batch, or says what room there is."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import UUID, uuid4

import orjson
import structlog
from psycopg.errors import DivisionByZero

from auterity_dagster.errors import AuterityError, Conflict, NotAuthenticated, NotPermitted, Unavailable
from auterity_dagster.money import NanoUsd
from auterity_dagster.relaycore.budget import (
    Enforcement,
    Window,
    budget_exceeded,
    lacks_allowance,
    refused,
    without_allowance,
)
from auterity_dagster.relaycore.ports import Hold, HoldRequest
from auterity_dagster.storage.group_commit import GroupCommit
from auterity_dagster.storage.repositories import ledger_statements as statements
from auterity_dagster.storage.repositories.ledger_connections import AWAY, LedgerConnections
from auterity_dagster.storage.repositories.ledger_windows import BudgetBooks

_log = structlog.get_logger(__name__)
TOGETHER_TRIES = 3
CLAIM_TRIES = 20
RETRY_AFTER_S = 1


@dataclass(frozen=True, slots=True, eq=False)
class Wanted:
    """A hold somebody waits for."""

    id: UUID
    request: HoldRequest
    answer: asyncio.Future[Hold]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the statement said: admitted or not, whether its windows were the current ones, and the rooms it saw.

    `barred` names keys that may not spend: "revoked", or the id of the request that froze the key. `taken` names holds
    whose idempotency key belongs to another request.
    """

    is_admitted: bool
    is_current: bool
    barred: dict[UUID, str]
    taken: frozenset[UUID]
    rooms_nusd: dict[UUID, NanoUsd]


class Holding:
    """Admits waiting holds; `give_back(hold_id)` is called for one whose caller is gone or whose commit is unknown."""

    def __init__(
        self, connections: LedgerConnections, *, batch_limit: int, give_back: Callable[[UUID, UUID], None]
    ) -> None:
        self._connections = connections
        self._books = BudgetBooks(connections)
        self._give_back = give_back
        self.batches = GroupCommit[Wanted](self._admit, limit=batch_limit)

    async def hold(self, request: HoldRequest) -> Hold:
        """Wait for the batch that carries this hold."""
        wanted = Wanted(uuid4(), request, asyncio.get_running_loop().create_future())
        self.batches.submit(request.organization_id, wanted)
        try:
            return await wanted.answer
        except asyncio.CancelledError:
            # The batch may have been committed in the very moment in which the caller went away.
            if wanted.answer.done() and not wanted.answer.cancelled() and wanted.answer.exception() is None:
                self._give_back(request.organization_id, wanted.id)
            raise

    async def _admit(self, organization_id: UUID, batch: list[Wanted]) -> None:
        try:
            await self._admit_what_fits(organization_id, batch)
        except AWAY:
            for wanted in batch:
                if not wanted.answer.done() or wanted.answer.cancelled():
                    self._give_back(organization_id, wanted.id)  # whether its commit arrived, nobody knows
            self._refuse([*batch, *self.batches.take_waiting(organization_id)])
        except Exception:  # noqa: BLE001 the worker's outer loop: whoever waits gets an answer
            _log.exception("ledger.holds_failed", holds=len(batch))
            self._books.forget(organization_id)
            self._refuse(batch)

    async def _admit_what_fits(self, organization_id: UUID, batch: list[Wanted]) -> None:
        waiting, tries = batch, 0
        while waiting := [wanted for wanted in waiting if not wanted.answer.done()]:
            tries += 1
            together = _with_different_claims(waiting) if tries <= TOGETHER_TRIES else waiting[:1]
            requests = [wanted.request for wanted in together]
            version, windows = await self._books.windows(organization_id, requests)
            lacking = [
                wanted
                for wanted, of_request in zip(together, windows, strict=True)
                if lacks_allowance(wanted.request, of_request)
            ]
            if lacking:
                self._books.forget(organization_id)
                for wanted in lacking if tries > 1 else ():  # the book may have been read before the allowance was made
                    if not wanted.answer.done():
                        wanted.answer.set_exception(without_allowance(wanted.request))
                continue
            try:
                verdict = await self._try(organization_id, version, list(zip(together, windows, strict=True)))
            except DivisionByZero:
                if tries > CLAIM_TRIES or not any(request.claim for request in requests):
                    raise
                continue
            if verdict.is_admitted:
                self._answer(organization_id, together, windows, verdict)
            elif not verdict.is_current:
                self._books.forget(organization_id)
            elif verdict.barred:
                for wanted in together:
                    if wanted.request.key_id in verdict.barred and not wanted.answer.done():
                        wanted.answer.set_exception(_barred(verdict.barred[wanted.request.key_id]))
            elif verdict.taken:
                for wanted in together:
                    if wanted.id in verdict.taken and not wanted.answer.done():
                        wanted.answer.set_exception(idempotency_running())
            else:
                pairs = list(zip(requests, windows, strict=True))
                for refusal in refused(pairs, verdict.rooms_nusd):
                    wanted = together[refusal.index]
                    if not wanted.answer.done():
                        wanted.answer.set_exception(budget_exceeded(wanted.request, refusal))

    async def _try(
        self, organization_id: UUID, version: int, batch: Sequence[tuple[Wanted, tuple[Window, ...]]]
    ) -> Verdict:
        sums: dict[UUID, NanoUsd] = {}
        for wanted, windows in batch:
            for window in windows:
                sums[window.id] = sums.get(window.id, 0) + wanted.request.amount_nusd
        parameters = {
            "organization_id": organization_id,
            "budgets_version": version,
            "window_ids": list(sums),
            "window_nusd": list(sums.values()),
            "key_ids": list({wanted.request.key_id for wanted, _ in batch}),
            "claims": orjson.dumps([_claim_record(wanted) for wanted, _ in batch if wanted.request.claim is not None]),
            "holds": orjson.dumps([_hold_record(wanted, windows) for wanted, windows in batch]),
        }
        ((is_admitted, is_current, barred, taken, _, rooms),) = (
            await self._connections.transaction(organization_id, (statements.HOLD, parameters))
        )[0]
        return Verdict(
            is_admitted,
            is_current,
            {UUID(key_id): reason for key_id, reason in barred.items()},
            frozenset(taken),
            {UUID(window_id): room for window_id, room in rooms.items()},
        )

    def _answer(
        self,
        organization_id: UUID,
        batch: Sequence[Wanted],
        windows: Sequence[tuple[Window, ...]],
        verdict: Verdict,
    ) -> None:
        for wanted, of_request in zip(batch, windows, strict=True):
            if wanted.answer.done():
                self._give_back(organization_id, wanted.id)
                continue
            hard = [window.id for window in of_request if window.budget.enforcement is Enforcement.HARD]
            left = min((verdict.rooms_nusd[window_id] for window_id in hard), default=None)
            wanted.answer.set_result(Hold(id=wanted.id, request=wanted.request, budget_left_nusd=left))

    def _refuse(self, waiting: Sequence[Wanted]) -> None:
        for wanted in waiting:
            if not wanted.answer.done():
                wanted.answer.set_exception(unavailable())


def unavailable() -> Unavailable:
    """Return the error of a call that met no ledger."""
    return Unavailable(
        f"The budget ledger does not answer; no provider was called. Retry after {RETRY_AFTER_S} s.",
        code="ledger_unavailable",
        retry_after_s=RETRY_AFTER_S,
    )


def idempotency_running() -> Conflict:
    """Return the error of a call whose `Idempotency-Key` another one, that is not answered yet, came with."""
    return Conflict(
        "A call with this Idempotency-Key is being answered.", code="idempotency_running", retry_after_s=RETRY_AFTER_S
    )


def _with_different_claims(waiting: Sequence[Wanted]) -> list[Wanted]:
    """Return those that may share a statement: one statement cannot claim a key for two requests."""
    seen: set[bytes] = set()
    chosen: list[Wanted] = []
    for wanted in waiting:
        claim = wanted.request.claim
        if claim is None or claim.key_digest not in seen:
            chosen.append(wanted)
        if claim is not None:
            seen.add(claim.key_digest)
    return chosen


def _barred(reason: str) -> AuterityError:
    if reason == "revoked":
        return NotAuthenticated("This key is revoked or expired.", code="key_revoked")
    return NotPermitted(
        f"This key is frozen: a provider billed above the declared maximum (request {reason}).",
        code="key_frozen",
        request_id=reason,
    )


def _claim_record(wanted: Wanted) -> dict[str, object]:
    claim = wanted.request.claim
    assert claim is not None
    return {
        "hold_id": wanted.id,
        "request_id": wanted.request.request_id,
        "id": claim.id,
        "key_digest": f"\\x{claim.key_digest.hex()}",
        "request_digest": f"\\x{claim.request_digest.hex()}",
    }


def _hold_record(wanted: Wanted, windows: tuple[Window, ...]) -> dict[str, object]:
    request = wanted.request
    return {
        "id": wanted.id,
        "request_id": request.request_id,
        "attempt": request.attempt,
        "dealership_id": request.dealership_id,
        "key_id": request.key_id,
        "user_id": request.user_id,
        "purpose": request.purpose,
        "tags": request.tags,
        "deployment_id": request.deployment_id,
        "price_key": request.price_key,
        "price_digest": request.price_digest,
        "window_ids": [window.id for window in windows],
        "amount_nusd": request.amount_nusd,
        "expires_in_s": request.expires_in_s,
    }
