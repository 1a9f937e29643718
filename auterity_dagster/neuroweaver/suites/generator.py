"""Generator B: evaluation items of another origin than the training rows, with what a right answer must hold.

It shares no dealership, vehicle, stock-number letter, time or sentence with generator A; decontamination proves it
again on the bytes. Every eighth item has a twin that says the same in other words and shares its cluster.
"""

import json
from collections.abc import Callable, Mapping
from random import Random
from typing import NamedTuple
from uuid import UUID

from pydantic import JsonValue

from auterity_dagster.facts import VehicleFact, price_text, sales_facts, service_facts, vehicle_fact
from auterity_dagster.money import NANO_USD_PER_USD
from auterity_dagster.neuroweaver.corpus.words import CatalogVehicle
from auterity_dagster.neuroweaver.example import EvaluationItem, Family, Message, item_id
from auterity_dagster.neuroweaver.suites import words
from auterity_dagster.prompt import PromptTemplate

ORIGIN = "dealership-b/1"
SUITE_CANARY = UUID("6f0b3a52-6a55-4d0e-9a0b-0f7c1d9e5b41")

CRITICAL_RULES: Mapping[Family, tuple[str, ...]] = {
    Family.LEAD_REPLY: ("invented_price", "unreal_vehicle", "commitment", "booked_unconfirmed"),
    Family.SERVICE_REMINDER: ("invented_price", "booked_unconfirmed"),
    Family.SERVICE_TRIAGE: ("safety_fault_as_routine",),
    Family.STOCK_QUESTION: ("unreal_vehicle", "invented_price"),
}
_TWIN_EVERY = 8


class Case(NamedTuple):
    """One item before it is rendered. `questions` holds one phrasing, or two where it has a twin."""

    family: Family
    dealership: str
    customer: str
    facts: str
    questions: tuple[str, ...]
    expected: Mapping[str, JsonValue]


def generate(prompts: Mapping[str, PromptTemplate], *, seed: int, items_per_family: int) -> tuple[EvaluationItem, ...]:
    """Return `items_per_family` items of every family; more items only add to what fewer gave."""
    makers: Mapping[Family, Callable[[Random], Case]] = {
        Family.LEAD_REPLY: _lead,
        Family.SERVICE_REMINDER: _reminder,
        Family.SERVICE_TRIAGE: _triage,
        Family.STOCK_QUESTION: _stock,
    }
    items: list[EvaluationItem] = []
    for family, make in makers.items():
        found: dict[str, EvaluationItem] = {}
        number = 0
        while len(found) < items_per_family:
            random = Random(f"{ORIGIN}:{seed}:{family}:{number}")  # noqa: S311 - repeatable items, no secret
            case = make(random)
            is_twinned = number % _TWIN_EVERY == 0 and len(case.questions) > 1
            for item in rendered(case, prompts[family.value], origin=ORIGIN, is_twinned=is_twinned):
                found.setdefault(item.item_id, item)
            number += 1
        items += list(found.values())[:items_per_family]
    return tuple(items)


def rendered(case: Case, prompt: PromptTemplate, *, origin: str, is_twinned: bool) -> tuple[EvaluationItem, ...]:
    """Return the case as one item, or as two twins in one cluster."""
    items: list[EvaluationItem] = []
    for question in case.questions if is_twinned else case.questions[:1]:
        values = {
            "dealership": case.dealership,
            "facts": case.facts,
            "customer": case.customer,
            "question": question,
        }
        system, user = prompt.render({name: values[name] for name in prompt.placeholders})
        messages = (Message(role="system", content=system), Message(role="user", content=user))
        expected = {**case.expected, "question": question}
        own_id = item_id(case.family, messages, expected)
        first_id = items[0].item_id if items else own_id
        items.append(
            EvaluationItem(
                item_id=own_id,
                family=case.family,
                messages=messages,
                facts=case.facts,
                expected=expected,
                scorer=case.family.value,
                critical_rules=CRITICAL_RULES[case.family],
                cluster=first_id,
                twin_of=first_id if items else None,
                origin=origin,
                canary_guid=SUITE_CANARY,
            )
        )
    return tuple(items)


def _lead(random: Random) -> Case:
    kind = random.choices(tuple(words.LEAD_QUESTIONS), weights=(24, 20, 18, 12, 10, 16))[0]
    chosen = random.choice(words.VEHICLES)
    vehicle = _vehicle(random, chosen)
    first, second = _times(random)
    name = random.choice(words.FIRST_NAMES)
    facts = sales_facts(
        [] if kind == "nothing" else [vehicle],
        hours=random.choice(words.HOURS) if random.random() < 0.1 else None,
        appointment_times=() if kind == "nothing" else (first, second),
    )
    title, stock, price = vehicle.title, vehicle.stock_number, price_text(vehicle.price_nusd or 0)
    reference = (
        f"Hi {name}, nothing in stock fits your request. May we write when that changes?"
        if kind == "nothing"
        else f"Hi {name}, the {title} (stock {stock}) is here for {price}. Could you visit {first} or {second}?"
    )
    phrasings = random.choice(words.LEAD_QUESTIONS[kind])
    wish = random.choice(words.WISHES)
    return Case(
        family=Family.LEAD_REPLY,
        dealership=random.choice(words.DEALERSHIPS),
        customer=name,
        facts=facts,
        questions=tuple(one.format(title=title, model=chosen.vehicle_model, wish=wish) for one in phrasings),
        expected={"reference": reference, "kind": kind},
    )


def _reminder(random: Random) -> Case:
    chosen = random.choice(words.VEHICLES)
    vehicle = f"{random.randrange(2015, 2026)} {chosen.make} {chosen.vehicle_model}"
    due = random.choice(words.SERVICES)
    first, second = _times(random)
    name = random.choice(words.FIRST_NAMES)
    return Case(
        family=Family.SERVICE_REMINDER,
        dealership=random.choice(words.DEALERSHIPS),
        customer=name,
        facts=service_facts(vehicle=vehicle, due=due, times=(first, second)),
        questions=("",),
        expected={
            "reference": f"Hi {name}, the {due} for your {vehicle} is near. We have {first} or {second}; which one?"
        },
    )


def _triage(random: Random) -> Case:
    symptom, twin = random.choice(words.SYMPTOMS)
    chosen = random.choice(words.VEHICLES)
    frame = random.choice(words.TRIAGE_FRAMES)
    title = f"{random.randrange(2012, 2026)} {chosen.make} {chosen.vehicle_model}"
    phrasings = (symptom.text, twin) if twin else (symptom.text,)
    return Case(
        family=Family.SERVICE_TRIAGE,
        dealership=random.choice(words.DEALERSHIPS),
        customer="",
        facts="",
        questions=tuple(_sentence(frame.format(symptom=one, title=title)) for one in phrasings),
        expected={
            "reference": json.dumps({"urgency": symptom.urgency, "department": symptom.department}),
            "urgency": symptom.urgency,
            "department": symptom.department,
            "is_safety": any(word in symptom.text for word in words.SAFETY_WORDS),
        },
    )


def _stock(random: Random) -> Case:
    asked, other = random.sample(words.VEHICLES, k=2)
    fitting = [_vehicle(random, asked) for _ in range(random.choice((0, 1, 1, 2)))]
    shown = [*fitting, *(_vehicle(random, other) for _ in range(random.choice((0, 0, 1))))]
    random.shuffle(shown)
    listing = " and ".join(f"stock {one.stock_number} ({one.title})" for one in fitting)
    reference = f"Here today: {listing}." if fitting else f"A {asked.make} {asked.vehicle_model} is not in stock."
    return Case(
        family=Family.STOCK_QUESTION,
        dealership=random.choice(words.DEALERSHIPS),
        customer="",
        facts=sales_facts(shown),
        questions=tuple(
            one.format(make=asked.make, model=asked.vehicle_model) for one in random.choice(words.STOCK_QUESTIONS)
        ),
        expected={"reference": reference, "stock_numbers": [one.stock_number for one in fitting]},
    )


def _vehicle(random: Random, chosen: CatalogVehicle) -> VehicleFact:
    is_new = random.random() < 0.5
    return vehicle_fact(
        stock_number=f"{random.choice(words.STOCK_LETTERS)}{random.randrange(1000, 100_000):04d}",
        year=2026 if is_new else random.randrange(2017, 2026),
        make=chosen.make,
        vehicle_model=chosen.vehicle_model,
        trim=random.choice(chosen.trims),
        condition="new" if is_new else "used",
        availability="available",
        price_nusd=random.randrange(9_001, 71_999, 7) * NANO_USD_PER_USD,
    )


def _times(random: Random) -> tuple[str, str]:
    first, second = sorted(random.sample(words.CLOCK_TIMES, k=2))
    return f"{random.choice(words.DAYS)} {first}", f"{random.choice(words.DAYS)} {second}"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
