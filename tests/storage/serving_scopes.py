"""Scopes with artefacts that passed the gate, for the tests of switching."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from threading import Barrier
from uuid import UUID, uuid4

from sqlalchemy import select

from auterity_dagster.clock import SystemClock
from auterity_dagster.errors import Conflict
from auterity_dagster.neuroweaver.switching import ServingPhase, Switch
from auterity_dagster.storage.database import BlockingDatabase
from auterity_dagster.storage.repositories import serving_state
from auterity_dagster.storage.repositories.gate_verdicts import add_verdict
from auterity_dagster.storage.repositories.organizations import create_organization
from auterity_dagster.storage.tables.analytics import FeedbackRow
from auterity_dagster.storage.tables.routing import DeploymentRow
from auterity_dagster.storage.tables.specialisation import GateVerdictRow, ReleasedArtefactRow, SwitchLedgerRow

SCOPE = "o-1a2b3c4d"
HARMS = 12


def digest(letter: str) -> str:
    return letter * 64


@dataclass(frozen=True)
class Scope:
    database: BlockingDatabase
    organization_id: UUID
    model: str = ""

    def judge(
        self, letter: str, outcome: str = "PASS", *, days: int = 14, later_s: int = 0, champion: str | None = None
    ) -> None:
        """Store a verdict; it compared with today's champion unless another is named."""
        now = datetime.now(UTC) + timedelta(seconds=later_s)
        with self.database.begin(self.organization_id) as session:
            compared = champion or serving_state.current_digest(session, SCOPE) or "provider:sandbox/sandbox-large"
            row = GateVerdictRow(
                organization_id=self.organization_id,
                verdict_digest=f"{letter}{outcome}{days}{now}",
                artefact_digest=digest(letter),
                scope=SCOPE,
                outcome=outcome,
                profile="release",
                champion_digest=compared,
                report_digest="r",
                reasons=[],
                decided_at=now,
                expires_at=now + timedelta(days=days),
            )
            add_verdict(session, row)

    def report_harm(self, letter: str, *, deployment_id: str) -> None:
        """Store what customers and sellers say of an artefact's answers: they did harm, again and again."""
        with self.database.begin(self.organization_id) as session:
            for _ in range(HARMS):
                label = FeedbackRow(
                    organization_id=self.organization_id,
                    request_id=uuid4(),
                    kind="workflow_outcome",
                    key_id=uuid4(),
                    task="lead_reply",
                    artefact_digest=digest(letter),
                    deployment_id=deployment_id,
                    score=0.0,
                )
                session.add(label)

    def release(self, letters: Iterable[str], *, may_route: str = "100 percent") -> None:
        """Judge and release artefacts; each is known by one letter."""
        for letter in letters:
            self.judge(letter)
            with self.database.begin(self.organization_id) as session:
                row = ReleasedArtefactRow(
                    organization_id=self.organization_id,
                    scope=SCOPE,
                    artefact_digest=digest(letter),
                    verdict_digest="v",
                    may_route=may_route,
                    registered_name=f"neuroweaver-{SCOPE}",
                    registered_version=str(ord(letter) - ord("a") + 1),
                    model=self.model or f"adapter:{digest(letter)}",
                    price_key="sandbox/small",
                    context_tokens=2048,
                    output_tokens=512,
                    tasks=["lead_reply"],
                    families=[],
                )
                serving_state.release(session, row)

    def switch(
        self,
        before: str | None,
        after: str | None,
        *,
        phase: ServingPhase = ServingPhase.CHAMPION,
        weight_percent: int = 100,
        key: str,
        actor: UUID | None = None,
    ) -> bool:
        change = Switch(before and digest(before), after and digest(after), phase, weight_percent, "test", actor)
        with self.database.begin(self.organization_id) as session:
            return serving_state.switch(session, change, self.entry(key))

    def entry(self, key: str) -> serving_state.Entry:
        return serving_state.Entry(self.organization_id, SCOPE, ["evidence"], key)


def new_scope(database: BlockingDatabase, *, model: str = "") -> Scope:
    created = create_organization(
        database,
        name="Harbor Group",
        owner_email="owner@example.com",
        owner_password="a long enough passphrase",
        pepper=bytes(32),
        clock=SystemClock(),
    )
    return Scope(database, created.organization_id, model)


def served(scope: Scope) -> dict[str, tuple[str, int]]:
    """What routing would read: the artefact and the share of each alias."""
    with scope.database.begin(scope.organization_id) as session:
        rows = session.scalars(select(DeploymentRow))
        return {row.alias: (row.artefact_digest[0], row.weight_percent) for row in rows}


def ledger(scope: Scope) -> list[SwitchLedgerRow]:
    with scope.database.begin(scope.organization_id) as session:
        return list(session.scalars(select(SwitchLedgerRow).order_by(SwitchLedgerRow.sequence)))


Promote = Callable[[Scope, str, str, str], bool]


def compared_and_set(scope: Scope, before: str, after: str, key: str) -> bool:
    try:
        return scope.switch(before, after, key=key)
    except Conflict:
        return False


def last_one_wins(scope: Scope, before: str, after: str, key: str) -> bool:
    """The control, which is what a registry's alias does: it is set, whatever it named."""
    with scope.database.begin(scope.organization_id) as session:
        seen = (serving_state.current_digest(session, SCOPE) or "")[:1]
    scope.judge(after, champion=digest(seen))
    return compared_and_set(scope, seen, after, key) or last_one_wins(scope, before, after, f"{key}+")


def rounds(scope: Scope, promote: Promote, *, promoters: int, count: int) -> list[int]:
    """Let promoters who all saw the same champion promote at once; return how many won in each round."""
    letters = [chr(ord("b") + number) for number in range(promoters)]
    scope.release("a")
    scope.switch(None, "a", key="first")
    won: list[int] = []
    with ThreadPoolExecutor(promoters) as pool:
        for number in range(count):
            with scope.database.begin(scope.organization_id) as session:
                before = (serving_state.current_digest(session, SCOPE) or "")[:1]
            scope.release(letters)
            start = Barrier(promoters)

            def run(letter: str, before: str = before, number: int = number, start: Barrier = start) -> bool:
                start.wait()
                return letter != before and promote(scope, before, letter, f"{number}-{letter}")

            won.append(sum(pool.map(run, letters)))
    return won


def assert_one_winner_a_round(scope: Scope, won: Sequence[int]) -> None:
    assert list(won) == [1] * len(won)
    rows = ledger(scope)
    assert [row.sequence for row in rows] == list(range(1, len(won) + 2))
    assert [later.from_digest for later in rows[1:]] == [earlier.to_digest for earlier in rows[:-1]]
    assert served(scope) == {"champion": ((rows[-1].to_digest or "")[0], 100)}
