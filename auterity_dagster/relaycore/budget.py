"""Budgets: whom one binds, which holds of a batch fit, and what a refusal says."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from uuid import UUID

from auterity_dagster.errors import BudgetExceeded
from auterity_dagster.money import NanoUsd, in_usd
from auterity_dagster.relaycore.allowance import SHADOW
from auterity_dagster.relaycore.ports import HoldRequest

EVERY_VALUE = "*"
"""A budget with this value opens a window of its own for each key, dealership, … it meets."""

ALERT_PERCENTS = (80, 100)
"""The shares of a cap at which a budget tells people, where its maker names none."""


class Scope(StrEnum):
    """What a budget counts; `organization` counts everything."""

    ORGANIZATION = "organization"
    DEALERSHIP = "dealership"
    KEY = "key"
    USER = "user"
    PURPOSE = "purpose"
    TAG = "tag"
    DEPLOYMENT = "deployment"


class Period(StrEnum):
    """How often a budget starts anew, in its time zone, by the database's clock."""

    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    QUARTER = "quarter"
    YEAR = "year"
    LIFETIME = "lifetime"


class Enforcement(StrEnum):
    """`hard` refuses what does not fit, `soft` is there to alert, `shadow` records only."""

    HARD = "hard"
    SOFT = "soft"
    SHADOW = "shadow"


@dataclass(frozen=True, slots=True)
class Budget:
    """A budget as the ledger applies it."""

    id: UUID
    name: str
    scope: Scope
    value: str
    enforcement: Enforcement
    cap_nusd: NanoUsd


@dataclass(frozen=True, slots=True)
class Window:
    """One period of a budget for one value of its scope; `closes_at` is None for a lifetime."""

    id: UUID
    budget: Budget
    value: str
    opens_at: datetime
    closes_at: datetime | None


@dataclass(frozen=True, slots=True)
class Refusal:
    """A hold that does not fit, and the tightest window that says so, with the room left there."""

    index: int
    window: Window
    room_nusd: NanoUsd


def needs_second_person(
    enforcement: Enforcement, *, before_nusd: NanoUsd, after_nusd: NanoUsd, alone_nusd: NanoUsd
) -> bool:
    """True for a cap that lets more be spent than before, and more than one person may decide alone."""
    return enforcement is Enforcement.HARD and after_nusd > before_nusd and after_nusd > alone_nusd


def window_values(budget: Budget, request: HoldRequest) -> tuple[str, ...]:
    """Return the values under which the budget counts this request: none when it does not bind it, several for tags.

    A shadow call is nobody's: it counts in no budget of the key that happened to ask.
    """
    match budget.scope:
        case Scope.ORGANIZATION:
            return (str(request.organization_id),)
        case Scope.DEALERSHIP:
            values = () if request.dealership_id is None else (str(request.dealership_id),)
        case Scope.KEY:
            is_nobodys = request.purpose == SHADOW and request.allowance is not None
            values = () if is_nobodys else (str(request.key_id),)
        case Scope.USER:
            values = () if request.user_id is None else (str(request.user_id),)
        case Scope.PURPOSE:
            values = (request.purpose,) if budget.value != request.allowance else (budget.value,)
        case Scope.TAG:
            values = request.tags
        case Scope.DEPLOYMENT:
            values = (request.deployment_id,)
    return values if budget.value == EVERY_VALUE else tuple(value for value in values if value == budget.value)


def lacks_allowance(request: HoldRequest, windows: Sequence[Window]) -> bool:
    """True if an allowance is to pay for the request and none of these hard windows is that allowance's."""
    return request.allowance is not None and not any(
        window.value == request.allowance and window.budget.enforcement is Enforcement.HARD for window in windows
    )


def refused(
    wanted: Sequence[tuple[HoldRequest, Sequence[Window]]], rooms_nusd: Mapping[UUID, NanoUsd]
) -> tuple[Refusal, ...]:
    """Return which holds do not fit when each, in order of arrival, takes its amount from every hard window's room."""
    left = dict(rooms_nusd)
    refusals: list[Refusal] = []
    for index, (request, windows) in enumerate(wanted):
        hard = [window for window in windows if window.budget.enforcement is Enforcement.HARD]
        tightest = min(hard, key=lambda window: left[window.id], default=None)
        if tightest is not None and left[tightest.id] < request.amount_nusd:
            refusals.append(Refusal(index, tightest, left[tightest.id]))
            continue
        for window in hard:
            left[window.id] -= request.amount_nusd
    return tuple(refusals)


def tokens_that_fit(request: HoldRequest, room_nusd: NanoUsd) -> int:
    """Return how many output tokens the room would pay for, after the prompt."""
    output_nusd = request.amount_nusd - request.prompt_nusd
    beyond_prompt_nusd = room_nusd - request.prompt_nusd
    if output_nusd <= 0 or beyond_prompt_nusd <= 0:
        return 0
    return min(beyond_prompt_nusd * request.max_tokens // output_nusd, request.max_tokens)


def budget_exceeded(request: HoldRequest, refusal: Refusal) -> BudgetExceeded:
    """Return the error a caller sees, with the same figures as details."""
    window, room_nusd = refusal.window, max(refusal.room_nusd, 0)
    budget, tokens = window.budget, tokens_that_fit(request, room_nusd)
    return BudgetExceeded(
        f'Budget "{budget.name}" ({budget.scope} {window.value}, {_instant(window.opens_at)} to '
        f"{_instant(window.closes_at)}) has ${in_usd(room_nusd)} of ${in_usd(budget.cap_nusd)} left; "
        f"this call may cost ${in_usd(request.amount_nusd)}. {tokens} output tokens would fit.",
        budget_id=str(budget.id),
        scope=str(budget.scope),
        value=window.value,
        room_nusd=room_nusd,
        cap_nusd=budget.cap_nusd,
        hold_nusd=request.amount_nusd,
        output_tokens=tokens,
    )


def without_allowance(request: HoldRequest) -> BudgetExceeded:
    """Return the error of a call whose allowance is not in force."""
    return BudgetExceeded(
        f'The allowance "{request.allowance}" is not in force; nothing was called.',
        scope="purpose",
        value=request.allowance,
    )


def _instant(at: datetime | None) -> str:
    return "no end" if at is None else at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
