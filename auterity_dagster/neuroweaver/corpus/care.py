"""Generator A's service conversations: reminders, and triage answered with one JSON object."""

import json
from random import Random

from auterity_dagster.facts import service_facts
from auterity_dagster.neuroweaver.corpus.sales import Draft, appointment_times, said
from auterity_dagster.neuroweaver.corpus.words import SERVICES, SYMPTOMS, TRIAGE_FRAMES, VEHICLES
from auterity_dagster.neuroweaver.example import Family

_REMINDERS = (
    "your {vehicle} is due for its {due}.",
    "it is time for the {due} of your {vehicle}.",
    "the {due} of your {vehicle} is due.",
    "your {vehicle} needs its {due} soon.",
    "we are expecting your {vehicle} for its {due}.",
)
_GREETINGS = ("Hi {name}, ", "Hello {name}, ")
_NEXT_STEPS = (
    "Does {first} or {second} work for you?",
    "Would {first} or {second} suit you?",
    "Can you bring it in {first} or {second}?",
    "Shall we book {first} or {second}?",
    "Which is better, {first} or {second}?",
)
_URGENCY_WEIGHT = {"stop_driving": 1.0, "today": 1.0, "soon": 1.0, "routine": 0.7}


def reminder(random: Random, *, dealership: str, name: str, vehicle: str) -> Draft:
    """Return a service reminder that offers the two times of its facts."""
    due = random.choice(SERVICES)
    first, second = appointment_times(random)
    statement_at, step_at, greeting_at = random.randrange(5), random.randrange(5), random.randrange(2)
    text = f"{_GREETINGS[greeting_at]}{_REMINDERS[statement_at]} {_NEXT_STEPS[step_at]}"
    return Draft(
        family=Family.SERVICE_REMINDER,
        values={
            "dealership": dealership,
            "facts": service_facts(vehicle=vehicle, due=due, times=(first, second)),
            "customer": name,
        },
        reply=text.format(name=name, vehicle=vehicle, due=due, first=first, second=second),
        template=f"reminder/{greeting_at}/{statement_at}/{step_at}",
    )


def triage(random: Random, *, dealership: str) -> Draft:
    """Return a service request and the JSON object that sorts it."""
    symptom = random.choices(SYMPTOMS, weights=[_URGENCY_WEIGHT[one.urgency] for one in SYMPTOMS])[0]
    chosen = random.choice(VEHICLES)
    frame_at = random.randrange(len(TRIAGE_FRAMES))
    core = TRIAGE_FRAMES[frame_at].format(
        symptom=symptom.text,
        model=chosen.vehicle_model,
        title=f"{random.randrange(2012, 2026)} {chosen.make} {chosen.vehicle_model}",
    )
    return Draft(
        family=Family.SERVICE_TRIAGE,
        values={"dealership": dealership, "question": said(random, core)},
        reply=json.dumps({"urgency": symptom.urgency, "department": symptom.department}),
        template=f"triage/{SYMPTOMS.index(symptom)}/{frame_at}",
    )


def owned_vehicle(random: Random) -> str:
    """Return the car of a customer."""
    chosen = random.choice(VEHICLES)
    return f"{random.randrange(2014, 2026)} {chosen.make} {chosen.vehicle_model}"
