"""How good a row is to learn from, 0 to 1, by programs: what it claims, how it reads, whether a person accepted it."""

from auterity_dagster.facts import parse_facts
from auterity_dagster.neuroweaver.example import Family, TrainingExample
from auterity_dagster.neuroweaver.scoring import claims
from auterity_dagster.neuroweaver.scoring.families import LENGTH_LIMIT, Question, claims_are_known, triage_answer

LABELLED_MINIMUM = 0.5
UNLABELLED_MINIMUM = 0.7


def quality(row: TrainingExample) -> float:
    """Score a row: what it claims 0.4, its form 0.2, its language 0.2, its length 0.1, its label 0.1."""
    asked = row.prompt[-1].content
    question = Question(facts=parse_facts(asked), text=asked, expected={}, critical_rules=())
    if row.family is Family.SERVICE_TRIAGE:
        is_formed = triage_answer(row.answer) is not None
        return round(0.9 * is_formed + 0.1 * (row.label != "none"), 6)
    is_formed = claims.has_next_step(row.answer) or row.family is Family.STOCK_QUESTION
    return round(
        0.4 * claims_are_known(question, row.answer)
        + 0.2 * is_formed
        + 0.2 * claims.is_plain_english(row.answer)
        + 0.1 * (15 <= len(row.answer) <= LENGTH_LIMIT)
        + 0.1 * (row.label != "none"),
        6,
    )


def is_good_enough(row: TrainingExample, score: float) -> bool:
    """Whether a row may be trained on; one that no person or outcome vouches for must be better."""
    return score >= (UNLABELLED_MINIMUM if row.label == "none" else LABELLED_MINIMUM)
