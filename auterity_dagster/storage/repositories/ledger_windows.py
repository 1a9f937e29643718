"""Which windows a hold moves: an organization's budgets as this process last read them, checked at every hold."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from auterity_dagster.relaycore.budget import Budget, Enforcement, Scope, Window, window_values
from auterity_dagster.relaycore.ports import HoldRequest
from auterity_dagster.storage.repositories import ledger_statements as statements
from auterity_dagster.storage.repositories.ledger_connections import LedgerConnections


@dataclass(slots=True)
class BudgetBook:
    """One organization's budgets; `version` is the sum of theirs, so that any change anywhere changes it."""

    version: int
    budgets: tuple[Budget, ...]
    windows: dict[tuple[UUID, str], Window] = field(default_factory=dict[tuple[UUID, str], Window])


class BudgetBooks:
    """Per organization a book, read when missing or when a hold finds that it is out of date."""

    def __init__(self, connections: LedgerConnections) -> None:
        self._connections = connections
        self._books: dict[UUID, BudgetBook] = {}

    def forget(self, organization_id: UUID) -> None:
        """Read the budgets again before the next hold."""
        self._books.pop(organization_id, None)

    async def windows(
        self, organization_id: UUID, requests: Sequence[HoldRequest]
    ) -> tuple[int, list[tuple[Window, ...]]]:
        """Return the version of the book and, for each request, the current windows of every budget that binds it."""
        book = self._books.get(organization_id)
        if book is None:
            book = self._books[organization_id] = await self._read(organization_id)
        places = [
            [(budget.id, value) for budget in book.budgets for value in window_values(budget, request)]
            for request in requests
        ]
        missing = {place for of_request in places for place in of_request} - book.windows.keys()
        if missing:
            await self._open(organization_id, book, sorted(missing))
        return book.version, [tuple(book.windows[place] for place in of_request) for of_request in places]

    async def _read(self, organization_id: UUID) -> BudgetBook:
        named = {"organization_id": organization_id}
        _, rows = await self._connections.transaction(
            organization_id, (statements.ENSURE_LIFETIME_BUDGET, named), (statements.READ_BUDGETS, named)
        )
        return BudgetBook(
            version=sum(row[6] for row in rows),
            budgets=tuple(
                Budget(
                    id=row[0],
                    name=row[1],
                    scope=Scope(row[2]),
                    value=row[3],
                    enforcement=Enforcement(row[4]),
                    cap_nusd=row[5],
                )
                for row in rows
                if not row[7]
            ),
        )

    async def _open(self, organization_id: UUID, book: BudgetBook, missing: Sequence[tuple[UUID, str]]) -> None:
        wanted = {
            "organization_id": organization_id,
            "budget_ids": [budget_id for budget_id, _ in missing],
            "values": [value for _, value in missing],
        }
        _, rows = await self._connections.transaction(
            organization_id, (statements.OPEN_WINDOWS, wanted), (statements.READ_WINDOWS, wanted)
        )
        budgets = {budget.id: budget for budget in book.budgets}
        for window_id, budget_id, value, opens_at, closes_at in rows:
            book.windows[budget_id, value] = Window(window_id, budgets[budget_id], value, opens_at, closes_at)
