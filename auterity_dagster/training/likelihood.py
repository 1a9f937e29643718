"""How likely a model finds trained tokens: the held-out loss, and the fingerprint of a starting point."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from peft import PeftModel

from auterity_dagster.training.chat_format import IGNORED, TokenisedChat

_BATCH = 8


@torch.no_grad()
def mean_log_probability(model: PeftModel, rows: Sequence[TokenisedChat], *, pad_id: int) -> float:
    """Return the mean log-probability of all trained tokens of the rows, under the active adapter, in bf16 autocast.

    Dropout is off meanwhile, else two looks at one adapter would differ. Nothing else changes its mode: eval mode is
    what repacks 4-bit weights.
    """
    with _without_dropout(model):
        return _mean_log_probability(model.get_base_model(), rows, pad_id=pad_id)


def _mean_log_probability(base: Any, rows: Sequence[TokenisedChat], *, pad_id: int) -> float:
    total, count = 0.0, 0
    for start in range(0, len(rows), _BATCH):
        ids, labels = _padded(rows[start : start + _BATCH], pad_id)
        ids, labels = ids.to(base.device), labels.to(base.device)
        with torch.autocast(base.device.type, dtype=torch.bfloat16):
            hidden = base.model(input_ids=ids, attention_mask=(ids != pad_id).long(), use_cache=False)
            mask = labels[:, 1:] != IGNORED
            logits = base.lm_head(hidden.last_hidden_state[:, :-1][mask])
        chosen = torch.log_softmax(logits.float(), dim=-1).gather(1, labels[:, 1:][mask].unsqueeze(1))
        total += float(chosen.sum())
        count += int(mask.sum())
    return total / max(count, 1)


@contextmanager
def _without_dropout(model: PeftModel) -> Generator[None]:
    active = [module for module in model.modules() if isinstance(module, torch.nn.Dropout) and module.training]
    for module in active:
        module.eval()
    try:
        yield
    finally:
        for module in active:
            module.train()


def _padded(rows: Sequence[TokenisedChat], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(len(row.input_ids) for row in rows)
    ids = torch.tensor([row.input_ids + [pad_id] * (width - len(row.input_ids)) for row in rows])
    labels = torch.tensor([row.labels + [IGNORED] * (width - len(row.labels)) for row in rows])
    return ids, labels
