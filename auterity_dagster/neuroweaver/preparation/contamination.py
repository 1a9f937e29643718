"""Training rows that give away evaluation items: found by shared n-grams, so that the row goes and the item stays."""

from collections import Counter
from collections.abc import Iterable

from auterity_dagster.neuroweaver.example import EvaluationItem, TrainingExample

ANSWER_WORDS = 13
ITEM_WORDS = 8
ITEM_SHARE = 0.5


class Guarded:
    """The items that no training row may give away, indexed once for any number of rows.

    A row gives an item away with 13 words in a row of an expected answer, or with half of an item's 8-word sequences.
    An item with fewer than 8 words of its own is found by equality with a line of a row. What counts of an item is what
    is its own: its facts and its question, not the prompt template around them, which rows rightly share.
    """

    def __init__(self, items: Iterable[EvaluationItem]) -> None:
        self._answers: set[str] = set()
        self._short: set[str] = set()
        self._owners: dict[str, list[int]] = {}
        self._needed: list[float] = []
        self.count = 0
        for item in items:
            self.count += 1
            self._answers |= grams(str(item.expected.get("reference", "")), ANSWER_WORDS)
            own = f"{item.facts}\n{item.expected.get('question', '')}"
            found = grams(own, ITEM_WORDS)
            if not found:
                self._short.add(_folded(own))
                continue
            for gram in found:
                self._owners.setdefault(gram, []).append(len(self._needed))
            self._needed.append(ITEM_SHARE * len(found))

    def is_given_away_by(self, row: TrainingExample) -> bool:
        """Whether learning this row would be learning an item."""
        text = "\n".join(message.content for message in row.messages[1:])
        if not self._answers.isdisjoint(grams(text, ANSWER_WORDS)):
            return True
        lines = (*text.splitlines(), *(one.content for one in row.messages))
        if self._short and any(_folded(line) in self._short for line in lines):
            return True
        found = grams(text, ITEM_WORDS) & self._owners.keys()
        shared = Counter(item for gram in found for item in self._owners[gram])
        return any(count >= self._needed[item] for item, count in shared.items())


def grams(text: str, size: int) -> frozenset[str]:
    """Return every `size` words in a row, lower case."""
    words = _folded(text).split()
    return frozenset(" ".join(words[at : at + size]) for at in range(len(words) - size + 1))


def _folded(text: str) -> str:
    return " ".join(text.lower().split())
