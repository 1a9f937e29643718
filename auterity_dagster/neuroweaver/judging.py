"""Comparing two answers: programs first, then a judge in both orders; what the orders dispute is a tie."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, cast

from pydantic import BaseModel, ConfigDict, Field

from auterity_dagster.errors import Invalid
from auterity_dagster.facts import parse_facts
from auterity_dagster.neuroweaver.configuration import read_configuration
from auterity_dagster.neuroweaver.example import Family, Message, PreferencePair, Vote, pair_id
from auterity_dagster.neuroweaver.jsonl import canonical_json, digest
from auterity_dagster.neuroweaver.ports import Judge, JudgeQuestion
from auterity_dagster.neuroweaver.scoring.claims import is_plain_english
from auterity_dagster.neuroweaver.scoring.families import CRITICAL_RULES, Question, triage_answer
from auterity_dagster.neuroweaver.suites.generator import CRITICAL_RULES as FAMILY_RULES

TIE_LOW, TIE_HIGH = 0.35, 0.65
SURE = 0.3
"""How far from a half `p` must be before DPO may use a pair."""

Winner = Literal["a", "b", "tie"]


class Rubric(BaseModel):
    """Versioned text that tells a judge what a better answer is (`config/rubrics/`)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rubric: str = Field(pattern=r"^[a-z0-9-]{1,64}$")
    version: int = Field(ge=1)
    introduction: str = Field(min_length=1, max_length=2000)
    criteria: Mapping[str, str] = Field(min_length=1)
    critical: tuple[str, ...] = Field(min_length=1)

    @property
    def digest(self) -> str:
        """SHA-256 over every word."""
        return digest(self.model_dump(mode="json"))


class Comparison(NamedTuple):
    """Two answers to one prompt that are to be compared."""

    family: Family
    prompt: tuple[Message, ...]
    first: str
    second: str


class Opinion(NamedTuple):
    """What a judge said about answer A and answer B."""

    winner: Winner
    criteria: Mapping[str, int]
    critical: tuple[Literal["a", "b"], ...]


def load_rubric(path: Path) -> Rubric:
    """Read a rubric. Raises `ConfigurationInvalid` naming file and field."""
    return read_configuration(path, Rubric)


def compare(comparison: Comparison, *, judge: Judge, rubric: Rubric) -> PreferencePair:
    """Return the pair with its label and every vote.

    A program's finding against one answer only decides without a judge; findings against both discard the pair. A
    judge is asked in both orders; if the orders disagree, twice more in both at temperature 0.7, and a mean between
    0.35 and 0.65 is a tie, which is stored and never trained on.
    """
    first_wrong = findings(comparison, comparison.first)
    second_wrong = findings(comparison, comparison.second)
    if first_wrong and second_wrong:
        return _pair(comparison, p=0.5, votes=(), decided_by="program", label="discarded")
    if first_wrong or second_wrong:
        return _pair(comparison, p=float(not first_wrong), votes=(), decided_by="program", label="pair")
    votes = _both_orders(comparison, judge=judge, rubric=rubric, temperature=0.0, round_number=0)
    if len({_for_first(vote) for vote in votes}) > 1:
        for round_number in (1, 2):
            votes += _both_orders(comparison, judge=judge, rubric=rubric, temperature=0.7, round_number=round_number)
    p = sum(_for_first(vote) for vote in votes) / len(votes)
    return _pair(comparison, p=p, votes=votes, decided_by="judge", label="tie" if TIE_LOW < p < TIE_HIGH else "pair")


def findings(comparison: Comparison, answer: str) -> tuple[str, ...]:
    """Return what programs hold against an answer: critical events of its family, broken JSON, no language at all."""
    asked = comparison.prompt[-1].content
    question = Question(facts=parse_facts(asked), text=asked, expected={}, critical_rules=())
    found = [rule for rule in FAMILY_RULES[comparison.family] if CRITICAL_RULES[rule](question, answer)]
    if comparison.family is Family.SERVICE_TRIAGE:
        if triage_answer(answer) is None:
            found.append("invalid_json")
    elif not is_plain_english(answer):
        found.append("no_plain_language")
    return tuple(found)


def judge_messages(comparison: Comparison, rubric: Rubric, *, is_swapped: bool) -> tuple[Message, ...]:
    """Return the question to a judge. An answer is one line, so that it cannot pose as a heading or as the other."""
    criteria = "\n".join(f"- {name}: {text}" for name, text in rubric.criteria.items())
    critical = "\n".join(f"- {text}" for text in rubric.critical)
    shown = (comparison.second, comparison.first) if is_swapped else (comparison.first, comparison.second)
    first, second = (" ".join(answer.split()) for answer in shown)
    system = (
        f"{rubric.introduction}\n\nCRITERIA, each from -2 (A much worse) to 2 (A much better)\n{criteria}\n\n"
        f"CRITICAL EVENTS\n{critical}\n\nAnswer with one JSON object: reason, criteria, critical (letters of answers "
        'with a critical event), winner ("A", "B" or "tie").'
    )
    user = f"{comparison.prompt[-1].content}\n\nANSWER A\n{first}\n\nANSWER B\n{second}"
    return (Message(role="system", content=system), Message(role="user", content=user))


def answer_schema(rubric: Rubric) -> str:
    """Return the JSON Schema of an opinion, as canonical text."""
    criterion = {"type": "integer", "minimum": -2, "maximum": 2}
    return canonical_json(
        {
            "type": "object",
            "additionalProperties": False,
            "required": ["reason", "criteria", "critical", "winner"],
            "properties": {
                "reason": {"type": "string", "maxLength": 600},
                "criteria": {
                    "type": "object",
                    "additionalProperties": False,
                    "required": sorted(rubric.criteria),
                    "properties": dict.fromkeys(sorted(rubric.criteria), criterion),
                },
                "critical": {"type": "array", "items": {"enum": ["A", "B"]}, "maxItems": 2},
                "winner": {"enum": ["A", "B", "tie"]},
            },
        }
    )


def parse_opinion(text: str, rubric: Rubric) -> Opinion:
    """Read a judge's JSON strictly. Raises `Invalid` (code `judge_answer_invalid`) for anything else."""
    try:
        answer: object = json.loads(text)
    except json.JSONDecodeError as error:
        raise Invalid(f"the judge's answer is no JSON: {error}", code="judge_answer_invalid") from error
    if not isinstance(answer, dict):
        raise Invalid("the judge's answer is no JSON object", code="judge_answer_invalid")
    fields = cast("dict[str, object]", answer)
    winner, criteria, critical = fields.get("winner"), fields.get("criteria"), fields.get("critical")
    winners: Mapping[object, Winner] = {"A": "a", "B": "b", "tie": "tie"}
    if set(fields) != {"reason", "criteria", "critical", "winner"} or winner not in winners:
        raise Invalid("the judge's answer lacks reason, criteria, critical or winner", code="judge_answer_invalid")
    marks = cast("dict[str, object]", criteria) if isinstance(criteria, dict) else {}
    if set(marks) != set(rubric.criteria):
        raise Invalid("the judge's answer does not mark the rubric's criteria", code="judge_answer_invalid")
    numbers = {name: mark for name, mark in marks.items() if type(mark) is int and -2 <= mark <= 2}
    letters = cast("list[object]", critical) if isinstance(critical, list) else [None]
    if len(numbers) != len(marks) or not set(letters) <= {"A", "B"}:
        raise Invalid("the judge's marks are out of their range", code="judge_answer_invalid")
    named: tuple[Literal["a", "b"], ...] = tuple("a" if letter == "A" else "b" for letter in letters)
    return Opinion(winners[winner], numbers, named)


def _both_orders(
    comparison: Comparison, *, judge: Judge, rubric: Rubric, temperature: float, round_number: int
) -> tuple[Vote, ...]:
    votes: list[Vote] = []
    for is_swapped in (False, True):
        messages = judge_messages(comparison, rubric, is_swapped=is_swapped)
        key = digest([rubric.digest, [one.model_dump() for one in messages], temperature, round_number])
        question = JudgeQuestion(key, messages, answer_schema(rubric), temperature)
        answer = judge.ask(question)
        opinion = parse_opinion(answer.text, rubric)
        votes.append(
            Vote(
                judge=answer.judge,
                rubric_digest=rubric.digest,
                order="ba" if is_swapped else "ab",
                winner=opinion.winner,
                criteria=opinion.criteria,
                critical=opinion.critical,
                request_id=answer.request_id,
                cost_nusd=answer.cost_nusd,
            )
        )
    return tuple(votes)


def _for_first(vote: Vote) -> float:
    """Return 1 if a vote prefers the comparison's first answer, 0 if the second, 0.5 for a tie."""
    if vote.winner == "tie":
        return 0.5
    return float((vote.winner == "a") == (vote.order == "ab"))


def _pair(
    comparison: Comparison,
    *,
    p: float,
    votes: tuple[Vote, ...],
    decided_by: Literal["program", "judge"],
    label: Literal["pair", "tie", "discarded"],
) -> PreferencePair:
    is_first = p >= 0.5
    chosen, rejected = comparison.first, comparison.second
    if not is_first:
        chosen, rejected = rejected, chosen
    sure = max(p, 1 - p)
    return PreferencePair(
        pair_id=pair_id(comparison.prompt, comparison.first, comparison.second),
        family=comparison.family,
        prompt=comparison.prompt,
        chosen=chosen,
        rejected=rejected,
        p=sure,
        decided_by=decided_by,
        label="discarded" if label == "pair" and sure - 0.5 < SURE - 1e-9 else label,
        votes=votes,
    )


def flips(pairs: Sequence[PreferencePair]) -> float:
    """Return the share of judged pairs whose first two votes named different answers."""
    judged = [pair for pair in pairs if len(pair.votes) >= 2]
    return sum(_for_first(pair.votes[0]) != _for_first(pair.votes[1]) for pair in judged) / max(len(judged), 1)
