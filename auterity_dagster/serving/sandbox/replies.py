"""Rule-based replies from the FACTS of our own prompts: no AI, but good enough to be evaluated and sent to nobody.

`sandbox-large` follows the facts. `sandbox-small` makes a mistake in about every third answer, always the same one for
the same question: evaluation finds a real difference between the two.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random

from auterity_dagster.facts import Facts, VehicleFact, parse_facts, price_text

CARELESS_SHARE = 0.35
LISTED_LIMIT = 300

_CUSTOMER = re.compile(r"^CUSTOMER (\S+)", re.MULTILINE)
_QUESTION = re.compile(r'"""\n?(.*?)\n?\s*"""', re.DOTALL)
_GREETINGS = ("Hi", "Hello", "Good day")
_TRIAGE = (
    (r"brake[s ].*(gone|nothing|floor|fail)|nothing.*brake|can hardly stop|no brakes", "stop_driving"),
    (r"steering (jam|lock|stuck)|steering.*(jams|locks)|puddle of (fuel|gas)|leak\w* (fuel|gas)", "stop_driving"),
    (r"flame|fire|smoke|wheel .*(come off|loose|wobbl)|lug nut", "stop_driving"),
    (
        r"brake|braking|steering|airbag|fuel (smell|leak)|smell of (fuel|gas)|overheat|dies|stall|click|won't start",
        "today",
    ),
    (r"no crank|does not start|flat tire|tow", "today"),
    (
        r"lamp|light|warning|noise|hum|rattle|squeak|vibrat|cool|air conditioning|a/c|heater|idle|rough|leak|smell",
        "soon",
    ),
)
_PARTS = re.compile(r"\b(order|buy|part number|floor mats|wiper blades?|accessor|spare|key fob)\b", re.IGNORECASE)
_BODY = re.compile(r"\b(dent|scratch|bumper|paint|collision|fender|hail|body ?shop|windshield|mirror)\b", re.IGNORECASE)
_SAFETY = re.compile(r"brake|braking|steering|airbag|fuel", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the rules read of a request."""

    system: str
    user: str

    @property
    def customer(self) -> str:
        """The customer's name as the prompt shows it, or a neutral word."""
        match = _CUSTOMER.search(self.user)
        return match[1] if match and match[1] not in ("WROTE", "ASKED") else "there"

    @property
    def question(self) -> str:
        """What the customer wrote; without quotation marks the whole text."""
        match = _QUESTION.search(self.user)
        return match[1] if match else self.user


def reply(prompt: Prompt, *, model: str, seed: int) -> str:
    """Return the reply of a model to a prompt; the same arguments give the same reply."""
    digest = hashlib.sha256(f"{seed}|{prompt.system}|{prompt.user}".encode()).digest()
    random = Random(digest)  # noqa: S311 - made-up text, nothing is guarded by it
    answer, mistakes = _TASKS[_task(prompt)]
    facts = parse_facts(prompt.user)
    is_careless = int.from_bytes(digest[:4]) / 2**32 < CARELESS_SHARE
    if model == "sandbox-small" and is_careless:
        return random.choice(mistakes)(prompt, facts, random)
    return answer(prompt, facts, random)


def _task(prompt: Prompt) -> str:
    if prompt.user.startswith("FIELDS\n"):
        return "read_fields"
    if "sort service requests" in prompt.system:
        return "service_triage"
    if "CUSTOMER ASKED" in prompt.user:
        return "stock_question"
    if "Write the reminder" in prompt.user:
        return "service_reminder"
    if "FACTS" in prompt.user.splitlines() and parse_facts(prompt.user).other:
        return "listed"
    return "lead_reply" if "FACTS" in prompt.user else "chat"


def _listed(prompt: Prompt, facts: Facts, _: Random) -> str:
    """Facts of no known form, one after the other."""
    return "; ".join(facts.other)[:LISTED_LIMIT]


def _nothing_read(prompt: Prompt, _: Facts, __: Random) -> str:
    """Rules understand no text: of every field they say that nothing is stated."""
    lines = prompt.user.partition("\nTEXT")[0].splitlines()[1:]
    names = [line[2:].partition(",")[0] for line in lines if line.startswith("- ")]
    return json.dumps({"fields": dict.fromkeys(names), "quotes": dict.fromkeys(names)})


def _lead_reply(prompt: Prompt, facts: Facts, random: Random) -> str:
    greeting = f"{random.choice(_GREETINGS)} {prompt.customer},"
    ask = f"Could you come in {' or '.join(facts.times)}?" if facts.times else "May we call you about it?"
    if not facts.vehicles:
        return f"{greeting} thank you for asking. Right now nothing in stock fits this request. {ask}"
    return f"{greeting} {_described(facts.vehicles[0])} {ask}"


def _described(vehicle: VehicleFact) -> str:
    state = {"available": "is available", "on hold": "is on hold at the moment", "sold": "is no longer in stock"}
    has_price = vehicle.price_nusd is not None and vehicle.availability == "available"
    price = f" for a total of {price_text(vehicle.price_nusd or 0)}" if has_price else ""
    return f"the {vehicle.title} (stock {vehicle.stock_number}) {state[vehicle.availability]}{price}."


def _lead_without_times(prompt: Prompt, facts: Facts, _: Random) -> str:
    vehicle = _described(facts.vehicles[0]) if facts.vehicles else "nothing in stock fits this request."
    return f"Hi {prompt.customer}, {vehicle} It is a great choice."


def _lead_in_general(prompt: Prompt, facts: Facts, _: Random) -> str:
    return f"Hi {prompt.customer}, thank you for writing to us! We have many great vehicles for every taste."


def _lead_with_wrong_price(prompt: Prompt, facts: Facts, random: Random) -> str:
    price = (facts.vehicles[0].price_nusd if facts.vehicles else None) or 30_000_000_000_000
    lowered = price_text(price - random.randrange(300, 2_000) * 1_000_000_000)
    return f"Hi {prompt.customer}, good news: it is yours for {lowered}. Could you come in soon?"


def _reminder(prompt: Prompt, facts: Facts, random: Random) -> str:
    service = facts.service
    due, vehicle = (service.due, service.vehicle) if service else ("service", "car")
    times = f"We could see you {' or '.join(facts.times)}." if facts.times else ""
    closing = random.choice(("Which suits you?", "Which time works for you?", "Please reply with the one you prefer."))
    return f"{random.choice(_GREETINGS)} {prompt.customer}, the {due} of your {vehicle} is due. {times} {closing}"


def _reminder_without_times(prompt: Prompt, facts: Facts, _: Random) -> str:
    vehicle = facts.service.vehicle if facts.service else "car"
    return f"Hi {prompt.customer}, your {vehicle} needs attention soon. Please call us."


def _reminder_with_one_time(prompt: Prompt, facts: Facts, _: Random) -> str:
    due = facts.service.due if facts.service else "service"
    return f"Hi {prompt.customer}, your {due} is due. We could see you {facts.times[0] if facts.times else 'soon'}."


def _triage(prompt: Prompt, facts: Facts, random: Random) -> str:
    text = prompt.question.lower()
    urgency = next((level for pattern, level in _TRIAGE if re.search(pattern, text)), "routine")
    department = "parts" if _PARTS.search(text) else "body_shop" if _BODY.search(text) else "service"
    return json.dumps({"urgency": urgency, "department": department})


def _triage_one_step_off(prompt: Prompt, facts: Facts, random: Random) -> str:
    answer: dict[str, str] = json.loads(_triage(prompt, facts, random))
    levels = ["routine", "soon", "today", "stop_driving"]
    place = levels.index(answer["urgency"])
    lowest = 1 if _SAFETY.search(prompt.question) else 0
    answer["urgency"] = levels[max(lowest, place - 1) if place == 3 else place + 1]
    return json.dumps(answer)


def _triage_in_words(prompt: Prompt, facts: Facts, random: Random) -> str:
    return f"This looks {json.loads(_triage(prompt, facts, random))['urgency']} for the service department."


def _stock(prompt: Prompt, facts: Facts, random: Random) -> str:
    fitting = [one for one in facts.vehicles if one.availability == "available" and _is_asked(one, prompt.question)]
    if not fitting:
        return "I am sorry, that is not in stock at the moment. May we tell you when that changes?"
    listed = ", ".join(f"{one.title} (stock {one.stock_number})" for one in fitting)
    return f"{random.choice(('In stock now', 'Available today'))}: {listed}. Would you like to see one?"


def _is_asked(vehicle: VehicleFact, question: str) -> bool:
    """A question that names a vehicle model wants that one; one that names only a make wants any of that make."""
    words = [word for word in re.findall(r"[\w-]+", vehicle.title) if not (word.isdigit() and len(word) == 4)]
    make, vehicle_model = words[0], words[1] if len(words) > 1 else words[0]
    if re.search(rf"\b{re.escape(vehicle_model)}\b", question, re.IGNORECASE):
        return True
    following = re.search(rf"\b{re.escape(make)}\s+([\w-]+)", question)
    is_make_named = re.search(rf"\b{re.escape(make)}", question, re.IGNORECASE) is not None
    return is_make_named and not (following and (following[1][0].isupper() or following[1][0].isdigit()))


def _stock_all_of_it(prompt: Prompt, facts: Facts, _: Random) -> str:
    listed = ", ".join(f"{one.title} (stock {one.stock_number})" for one in facts.vehicles)
    return f"We have these: {listed}." if listed else "Yes, we have it in stock (stock A12345)."


def _stock_without_numbers(prompt: Prompt, facts: Facts, _: Random) -> str:
    return "Yes, we have several that could suit you. Come by and have a look."


def _chat(prompt: Prompt, facts: Facts, random: Random) -> str:
    return (
        "This is the Auterity sandbox, an offline provider that follows written rules. "
        f"It read {len(prompt.user.split())} words and answers so that programs can be tried out."
    )


_Rule = Callable[[Prompt, Facts, Random], str]
_TASKS: Mapping[str, tuple[_Rule, tuple[_Rule, ...]]] = {
    "lead_reply": (_lead_reply, (_lead_without_times, _lead_in_general, _lead_with_wrong_price)),
    "service_reminder": (_reminder, (_reminder_without_times, _reminder_with_one_time)),
    "service_triage": (_triage, (_triage_one_step_off, _triage_in_words)),
    "stock_question": (_stock, (_stock_all_of_it, _stock_without_numbers)),
    "listed": (_listed, (_listed,)),
    "read_fields": (_nothing_read, (_nothing_read,)),
    "chat": (_chat, (_chat,)),
}
