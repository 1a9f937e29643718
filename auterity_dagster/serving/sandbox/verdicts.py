"""Rule-based verdicts for requests that ask which of two answers is better, in the JSON schema they ask for."""

import re
from collections.abc import Mapping
from typing import Any, cast

from auterity_dagster.facts import Facts, parse_facts, price_text
from auterity_dagster.serving.sandbox.schema_instance import DEFAULT, Schema, instance_of

_HEADING = re.compile(
    r"^\W*(?:answer|reply|response|candidate|option|assistant)\s+([AB12])\b[^\n]{0,20}$", re.IGNORECASE | re.MULTILINE
)
_WINNER = ("winner", "preferred", "better", "choice", "verdict", "result")
_AMOUNT = re.compile(r"\$\s?\d[\d,]*(?:\.\d{1,2})?")
_PROMISE = re.compile(r"\b(guarantee|discount|approved|free of charge|% off|booked|confirmed)\b", re.IGNORECASE)


def answer_for_schema(schema: Mapping[str, Any], text: str) -> dict[str, Any]:
    """Return an object that the schema admits; a property that names the winner gets the verdict on the text."""
    better = better_answer(text)
    verdict = "Sandbox verdict by written rules: facts named, next step offered, nothing invented."
    return cast(
        dict[str, Any],
        instance_of(schema, text=verdict, chosen=lambda name, part: _chosen(name, part, better)),
    )


def better_answer(text: str) -> str:
    """Return `A`, `B` or `tie` for the two answers that a text shows under headings such as `ANSWER A`."""
    parts = _HEADING.split(text)
    answers = {parts[index].upper(): parts[index + 1] for index in range(1, len(parts) - 1, 2)}
    first, second = answers.get("A", answers.get("1")), answers.get("B", answers.get("2"))
    if first is None or second is None:
        return "tie"
    facts = parse_facts(parts[0])
    difference = _points(first, facts) - _points(second, facts)
    return "tie" if difference == 0 else "A" if difference > 0 else "B"


def _points(answer: str, facts: Facts) -> int:
    """Count what a dealership wants of a reply: the facts, a next step, no invention, not too long."""
    lowered = answer.lower()
    allowed = {price_text(one.price_nusd) for one in facts.vehicles if one.price_nusd is not None}
    named = any(one.stock_number.lower() in lowered or one.title.lower() in lowered for one in facts.vehicles)
    points = 3 * named + 2 * sum(time.lower() in lowered for time in facts.times)
    if facts.service is not None:
        points += 2 * (facts.service.vehicle.lower() in lowered) + 2 * (facts.service.due.lower() in lowered)
    if facts.is_nothing_fitting:
        points += 3 * ("not in stock" in lowered or "nothing in stock" in lowered)
    points -= 5 * bool({one.replace(" ", "") for one in _AMOUNT.findall(answer)} - allowed)
    points -= 4 * bool(_PROMISE.search(answer))
    points += 1 if answer.strip().endswith("?") or "?" in answer else 0
    return points + (1 if 15 <= len(answer.strip()) <= 330 else -2)


def _chosen(name: str, schema: Schema, better: str) -> Any:
    if "enum" in schema:
        return _of_enum(schema["enum"], name=name, better=better)
    if name in _WINNER and schema.get("type") == "boolean":
        return better != "B"
    return better if name in _WINNER and schema.get("type") == "string" else DEFAULT


def _of_enum(values: list[Any], *, name: str, better: str) -> Any:
    wanted = {"A": {"A", "1"}, "B": {"B", "2"}, "tie": {"TIE", "EQUAL", "BOTH", "NEITHER"}}[better]
    found = [value for value in values if str(value).upper().removeprefix("ANSWER_") in wanted]
    return found[0] if found else values[-1] if name in _WINNER else values[0]
