"""Training rows that give away evaluation items: found by shared n-grams, so that the row goes and the item stays."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from auterity_dagster.neuroweaver.example import EvaluationItem, TrainingExample

ANSWER_WORDS = 13
ITEM_WORDS = 8
ITEM_SHARE = 0.5


class Decontaminated(NamedTuple):
    """The rows that stay, and the ids of those that went."""

    rows: tuple[TrainingExample, ...]
    removed: tuple[str, ...]


def without_contamination(rows: Sequence[TrainingExample], items: Iterable[EvaluationItem]) -> Decontaminated:
    """Drop rows that hold 13 words in a row of an expected answer, or half of an item's 8-word sequences.

    An item with fewer than 8 words of its own is found by equality with a line of a row. What counts of an item is what
    is its own: its facts and its question, not the prompt template around them, which rows rightly share.
    """
    answers: set[str] = set()
    short: set[str] = set()
    owners: dict[str, list[int]] = {}
    needed: list[float] = []
    for item in items:
        answers |= grams(str(item.expected.get("reference", "")), ANSWER_WORDS)
        own = f"{item.facts}\n{item.expected.get('question', '')}"
        found = grams(own, ITEM_WORDS)
        if not found:
            short.add(_folded(own))
            continue
        for gram in found:
            owners.setdefault(gram, []).append(len(needed))
        needed.append(ITEM_SHARE * len(found))
    kept: list[TrainingExample] = []
    removed: list[str] = []
    for row in rows:
        if _is_contaminated(row, answers=answers, short=short, owners=owners, needed=needed):
            removed.append(row.example_id)
        else:
            kept.append(row)
    return Decontaminated(tuple(kept), tuple(removed))


def grams(text: str, size: int) -> frozenset[str]:
    """Return every `size` words in a row, lower case."""
    words = _folded(text).split()
    return frozenset(" ".join(words[at : at + size]) for at in range(len(words) - size + 1))


def _is_contaminated(
    row: TrainingExample,
    *,
    answers: set[str],
    short: set[str],
    owners: dict[str, list[int]],
    needed: list[float],
) -> bool:
    text = "\n".join(message.content for message in row.messages[1:])
    if answers & grams(text, ANSWER_WORDS):
        return True
    if short and any(_folded(line) in short for line in (*text.splitlines(), *(one.content for one in row.messages))):
        return True
    shared = Counter(item for gram in grams(text, ITEM_WORDS) for item in owners.get(gram, ()))
    return any(count >= needed[item] for item, count in shared.items())


def _folded(text: str) -> str:
    return " ".join(text.lower().split())
