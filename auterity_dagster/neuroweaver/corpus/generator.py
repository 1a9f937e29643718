"""Generator A: a seeded synthetic corpus of dealership conversations. Every row is labelled synthetic.

Its name, version and seed stand in each row: equal arguments give equal bytes, on any machine.
"""

import hmac
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from random import Random
from typing import NamedTuple

from auterity_dagster.neuroweaver.corpus import care, sales
from auterity_dagster.neuroweaver.corpus.sales import Draft
from auterity_dagster.neuroweaver.corpus.words import DEALERSHIPS, FIRST_NAMES
from auterity_dagster.neuroweaver.example import (
    Family,
    GeneratorMark,
    GroupKeys,
    Message,
    TrainingExample,
    synthetic_example,
)
from auterity_dagster.prompt import PromptTemplate

NAME = "dealership-a"
VERSION = 1

_FAMILIES = tuple(Family)
_START = datetime(2026, 8, 1, 8, tzinfo=UTC)
_CONTACT_DETAILS = (
    " Call me at (312) 555-01{number:02d}.",
    " My number is 614-555-01{number:02d}.",
    " Write to {name}{number}@example.com.",
)
_WITH_CONTACT_DETAILS = 0.03
_SHARED_VEHICLE = 0.02


class _Customer(NamedTuple):
    number: int
    name: str
    dealership: str
    vehicle: str
    vehicle_number: int


class Corpus(NamedTuple):
    """The rows, and how often the most frequent template wrote one (a share of all rows)."""

    rows: tuple[TrainingExample, ...]
    largest_template_share: float


def generate(
    prompts: Mapping[str, PromptTemplate], *, seed: int, conversations: int = 4000, customers: int = 1500
) -> Corpus:
    """Return `conversations` rows of the four families in turn, by `customers` customers of four dealerships.

    One row in thirty carries an invented phone number or e-mail address, as real ones do, for the scrubber to find;
    a few customers share a vehicle, so that their rows must stay in one split.
    """
    known = [_customer(seed, number) for number in range(customers)]
    counts: dict[str, int] = {}
    rows: list[TrainingExample] = []
    for number in range(conversations):
        random = Random(f"{NAME}:{VERSION}:{seed}:{number}")  # noqa: S311 - a repeatable corpus, no secret
        customer = random.choice(known)
        draft = _draft(random, _FAMILIES[number % len(_FAMILIES)], customer)
        counts[draft.template] = counts.get(draft.template, 0) + 1
        rows.append(_row(draft, customer, number=number, seed=seed, prompt=prompts[draft.family.value], random=random))
    return Corpus(tuple(rows), max(counts.values(), default=0) / max(conversations, 1))


def _customer(seed: int, number: int) -> _Customer:
    random = Random(f"{NAME}:{VERSION}:{seed}:customer:{number}")  # noqa: S311 - likewise
    is_sharing = number > 0 and random.random() < _SHARED_VEHICLE
    return _Customer(
        number=number,
        name=random.choice(FIRST_NAMES),
        dealership=random.choice(DEALERSHIPS),
        vehicle=care.owned_vehicle(random),
        vehicle_number=random.randrange(number) if is_sharing else number,
    )


def _draft(random: Random, family: Family, customer: _Customer) -> Draft:
    match family:
        case Family.LEAD_REPLY:
            return sales.lead(random, dealership=customer.dealership, name=customer.name)
        case Family.STOCK_QUESTION:
            return sales.stock_question(random, dealership=customer.dealership)
        case Family.SERVICE_REMINDER:
            return care.reminder(random, dealership=customer.dealership, name=customer.name, vehicle=customer.vehicle)
        case Family.SERVICE_TRIAGE:
            return care.triage(random, dealership=customer.dealership)


def _row(
    draft: Draft, customer: _Customer, *, number: int, seed: int, prompt: PromptTemplate, random: Random
) -> TrainingExample:
    values = dict(draft.values)
    if "question" in values and random.random() < _WITH_CONTACT_DETAILS:
        details = random.choice(_CONTACT_DETAILS).format(name=customer.name.lower(), number=random.randrange(100))
        values["question"] += details
    system, user = prompt.render(values)
    is_about_own_vehicle = draft.family in (Family.SERVICE_REMINDER, Family.SERVICE_TRIAGE)
    return synthetic_example(
        family=draft.family,
        messages=(
            Message(role="system", content=system),
            Message(role="user", content=user),
            Message(role="assistant", content=draft.reply),
        ),
        group_keys=GroupKeys(
            customer=_key(seed, "customer", customer.number),
            conversation=_key(seed, "conversation", number),
            vehicle=_key(seed, "vehicle", customer.vehicle_number) if is_about_own_vehicle else None,
            lead=_key(seed, "lead", number) if draft.family is Family.LEAD_REPLY else None,
        ),
        generator=GeneratorMark(name=NAME, version=VERSION, seed=seed),
        created_at=_START + timedelta(minutes=37 * number % (60 * 24 * 100)),
    )


def _key(seed: int, kind: str, number: int) -> str:
    return hmac.digest(f"{NAME}:{seed}".encode(), f"{kind}:{number}".encode(), "sha256").hex()
