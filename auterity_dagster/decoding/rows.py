"""Writing several texts side by side so that each comes out, bit for bit, as it would alone.

In bfloat16 a sum in another order can turn a close choice of a word. Therefore nothing here depends on who else is
written: a prompt is read alone, each text attends to its own keys and values only, without padding, and the matrices
of a step always have the same number of rows, whether one text is written or eight.
"""

from collections.abc import Sequence
from typing import Any, cast

import torch
from transformers import AttentionInterface, DynamicCache
from transformers.integrations.sdpa_attention import sdpa_attention_forward

ROWS = 8
"""Texts that are written at once; a step computes so many rows, also for fewer texts."""

ATTENTION = "auterity_rows"
_GROWS_BY = 64
_FILLER = 0
"""The token of rows that nobody reads."""


class Row:
    """What one text attends to: keys and values of each layer, `[1, heads, tokens, width]`, with room to grow."""

    def __init__(self, cache: DynamicCache) -> None:
        self.length = cache.get_seq_length()
        self._kept = [(_roomy(layer.keys), _roomy(layer.values)) for layer in cast(Any, cache.layers)]

    def extended(self, layer: int, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Add the newest token of a layer and return all that the text attends to there."""
        keys, values = self._kept[layer]
        if self.length == keys.shape[2]:
            keys, values = self._kept[layer] = (_roomy(keys), _roomy(values))
        keys[:, :, self.length], values[:, :, self.length] = key[:, :, 0], value[:, :, 0]
        return keys[:, :, : self.length + 1], values[:, :, : self.length + 1]


def _roomy(kept: Any) -> torch.Tensor:
    more = kept.new_zeros(*kept.shape[:2], _GROWS_BY, kept.shape[3])
    return torch.cat([kept, more], dim=2)


def _attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    rows: Sequence[Row | None] | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Attend row by row; without `rows` it is the library's own attention over a prompt that is read alone."""
    if rows is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    output = query.new_zeros(query.shape[0], 1, query.shape[1], value.shape[3])
    for place, row in enumerate(rows):
        if row is not None:
            one = slice(place, place + 1)
            keys, values = row.extended(module.layer_idx, key[one], value[one])
            output[one] = sdpa_attention_forward(module, query[one], keys, values, None, **options)[0]
    return output, None


def prepared(network: Any) -> Any:
    """Return a network that `read` and `step` can use. It reads one prompt at a time from now on: masks are ignored."""
    AttentionInterface.register(ATTENTION, _attention)
    network.set_attn_implementation(ATTENTION)
    return network.eval()


@torch.inference_mode()
def read(network: Any, prompt_ids: Sequence[int]) -> tuple[Row, torch.Tensor]:
    """Read a prompt; return its row and the logits of the token that follows, `[vocabulary]` in float32."""
    cache = DynamicCache(config=network.config)
    ids = torch.tensor([list(prompt_ids)], device=network.device)
    output = network(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
    return Row(cache), output.logits[0, -1].float()


@torch.inference_mode()
def step(network: Any, rows: Sequence[Row], tokens: Sequence[int]) -> torch.Tensor:
    """Add each row's newest token; return the logits of the ones that follow, `[rows, vocabulary]` in float32."""
    filled: list[Row | None] = [*rows, *([None] * (ROWS - len(rows)))]
    ids = torch.tensor([[token] for token in (*tokens, *([_FILLER] * (ROWS - len(tokens))))], device=network.device)
    positions = torch.tensor([[0 if row is None else row.length] for row in filled], device=network.device)
    output = network(input_ids=ids, position_ids=positions, use_cache=False, rows=filled)
    for row in rows:
        row.length += 1
    return output.logits[: len(rows), -1].float()
