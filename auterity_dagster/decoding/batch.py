"""Texts under way: they join and leave between two steps, and none of them notices the others."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from auterity_dagster.decoding.rows import ROWS, Row, read, step
from auterity_dagster.decoding.sampling import Draw, Sampling


@dataclass(eq=False, slots=True)
class Text:
    """One text and the ids that were written of it so far."""

    row: Row
    draw: Draw
    ids: list[int] = field(default_factory=list[int])


@dataclass
class Batch:
    """The texts that one network writes now; at most `ROWS`."""

    network: Any
    texts: list[Text] = field(default_factory=list[Text])

    @property
    def has_room(self) -> bool:
        """True if one more may join."""
        return len(self.texts) < ROWS

    def join(self, prompt_ids: Sequence[int], sampling: Sampling) -> Text:
        """Read a prompt and write the first token of its text."""
        row, logits = read(self.network, prompt_ids)
        text = Text(row, Draw(sampling))
        text.ids.append(text.draw.next(logits))
        self.texts.append(text)
        return text

    def leave(self, text: Text) -> None:
        """Let a text go that has ended."""
        self.texts.remove(text)

    def write(self) -> None:
        """Write one more token of every text."""
        logits = step(self.network, [one.row for one in self.texts], [one.ids[-1] for one in self.texts])
        for text, of_text in zip(self.texts, logits, strict=True):
            text.ids.append(text.draw.next(of_text))
