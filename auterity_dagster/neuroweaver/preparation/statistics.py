"""How long the rows of a dataset are: characters, words and turns, by percentile, without keeping the rows."""

from collections.abc import Mapping, Sequence

import numpy as np

from auterity_dagster.neuroweaver.example import TrainingExample

PERCENTILES = (50, 90, 99, 99.5, 100)

Spread = Mapping[str, int]


class Lengths:
    """Collects the lengths of rows, one number each."""

    def __init__(self) -> None:
        self._of: dict[str, list[int]] = {"prompt_characters": [], "answer_characters": [], "words": [], "turns": []}

    def add(self, row: TrainingExample) -> None:
        """Measure one row."""
        self._of["prompt_characters"].append(sum(len(message.content) for message in row.prompt))
        self._of["answer_characters"].append(len(row.answer))
        self._of["words"].append(sum(len(message.content.split()) for message in row.messages))
        self._of["turns"].append(len(row.messages))

    def spreads(self) -> Mapping[str, Spread]:
        """Return the percentiles of each measure."""
        return {name: spread(values) for name, values in self._of.items()}


def spread(values: Sequence[int]) -> Spread:
    """Return percentiles of whole numbers as `p50`, `p90`, `p99`, `p99.5` and `p100`, each a value that occurs."""
    if not values:
        return {}
    found = np.percentile(np.array(values), PERCENTILES, method="higher")
    return {f"p{percentile:g}": int(value) for percentile, value in zip(PERCENTILES, found, strict=True)}
