"""Who answered a copied request better, the champion or its challenger: the same judging as of preference pairs."""

from collections.abc import Sequence
from typing import NamedTuple

from auterity_dagster.neuroweaver.example import Family, Message, PreferencePair
from auterity_dagster.neuroweaver.judging import Comparison
from auterity_dagster.neuroweaver.sequential import Winner

PROGRAMS = "programs"


class Outcome(NamedTuple):
    """Which one won, and who said so: programs, or judges by name."""

    winner: Winner
    decided_by: str


class GoodAnswer(NamedTuple):
    """A served answer as canaries are made from it."""

    family: Family
    prompt: tuple[Message, ...]
    answer: str


def comparison_of(
    task: str | None, messages: Sequence[tuple[str, str]], *, champion: str, challenger: str
) -> Comparison | None:
    """Return what a judge is asked, the champion's answer first; None for a task or texts that nobody can judge."""
    if task not in tuple(Family) or not messages or messages[-1][0] != "user":
        return None
    try:
        prompt = tuple(
            Message.model_validate({"role": "system" if role == "developer" else role, "content": text})
            for role, text in messages
        )
        for said in (champion, challenger):
            Message(role="assistant", content=said)
    except ValueError:
        return None
    return Comparison(Family(task), prompt, champion, challenger)


def is_equal(comparison: Comparison) -> bool:
    """True if both say the same but for white space: a tie that needs no judge."""
    return comparison.first.split() == comparison.second.split()


def outcome_of(comparison: Comparison, judged: PreferencePair) -> Outcome:
    """Return who won. What programs hold against both, or judges are not sure of, is a tie."""
    judges = sorted({vote.judge for vote in judged.votes})
    decided_by = ", ".join(judges) or PROGRAMS
    if judged.label != "pair":
        return Outcome("tie", decided_by)
    return Outcome("challenger" if judged.chosen == comparison.second else "champion", decided_by)


def good_answer(comparison: Comparison) -> GoodAnswer:
    """Return the champion's answer as one that was good enough to be served."""
    return GoodAnswer(comparison.family, comparison.prompt, comparison.first)
