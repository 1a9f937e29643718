"""How the next token is drawn: each text by its own settings and its own seed, whoever is written beside it."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is drawn: not at all at temperature 0, else from the likeliest that make up `top_p`.

    With a `seed` the same request draws the same tokens.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None


class Draw:
    """Draws the tokens of one text."""

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self._generator = None if sampling.seed is None else torch.Generator().manual_seed(sampling.seed)

    def next(self, logits: torch.Tensor) -> int:
        """Return the next token of logits `[vocabulary]` in float32: the likeliest, or a drawn one."""
        if self._sampling.temperature == 0:
            return int(logits.argmax())
        ranked, tokens = torch.softmax(logits.cpu() / self._sampling.temperature, dim=-1).sort(descending=True)
        # A token stays while those before it do not make up `top_p` yet: the likeliest always does.
        ranked = ranked.masked_fill(ranked.cumsum(dim=-1) - ranked >= self._sampling.top_p, 0.0)
        return int(tokens[torch.multinomial(ranked, 1, generator=self._generator)])
