"""Batched answers in bfloat16 from a base with or without an adapter: for AI feedback, evaluation and live parity."""

import hashlib
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from auterity_dagster.decoding.batch import Batch, Text
from auterity_dagster.decoding.rows import prepared
from auterity_dagster.decoding.sampling import Sampling
from auterity_dagster.errors import Invalid
from auterity_dagster.neuroweaver.jsonl import canonical_lines
from auterity_dagster.neuroweaver.stage import AnswerLine, Generation, PromptLine
from auterity_dagster.training.adapter import base_of, check_safe, load_adapter
from auterity_dagster.training.base_model import device_of, load_for_serving, load_tokenizer
from auterity_dagster.training.chat_format import render_prompt, stop_id, token_ids
from auterity_dagster.training.checkpoint import TrainingStopped
from auterity_dagster.training.run import StageResult, StageRun


def answer(run: StageRun) -> StageResult:
    """Answer every prompt of `prompts` at every temperature; the result is a file of `AnswerLine` rows."""
    settings = run.spec.generation
    if settings is None:
        raise Invalid(f"the stage {run.spec.stage} needs `generation`", field="generation")
    adapter = run.checkout("adapter") if "adapter" in run.spec.inputs else None
    run.progress.phase("loading the model")
    model, tokenizer = load_servable(
        run.checkout("base"), base_digest=run.digest("base"), adapter=adapter, device=device_of(run.spec.recipe)
    )
    prompts = run.rows("prompts", PromptLine)
    run.progress.started(resumed_from_step=None)
    started, answers, total = time.monotonic(), [], len(prompts) * len(settings.temperatures)
    for answered in answers_of(model, tokenizer, prompts, settings):
        answers.append(answered)
        run.progress.step(len(answers), total, {"tokens": float(sum(each.completion_tokens for each in answers))})
        if run.stop.is_set:
            raise TrainingStopped(len(answers), total, by="signal")
    elapsed_s = time.monotonic() - started
    tokens = sum(each.completion_tokens for each in answers)
    answers.sort(key=lambda each: (each.id, each.temperature))
    return StageResult(
        digest=run.store.put_bytes(canonical_lines(answers)),
        reason=f"{len(answers)} answers, {tokens} tokens in {elapsed_s:.0f} s",
        metrics={
            "answers": float(len(answers)),
            "completion_tokens": float(tokens),
            "tokens_per_s": tokens / max(elapsed_s, 1e-9),
            "stop_rate": sum(each.stop_reason == "stop" for each in answers) / max(len(answers), 1),
        },
        facts={"dtype": "bfloat16"},
    )


def load_servable(
    base: Path, *, base_digest: str, adapter: Path | None, device: str
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load what answers: the base, with the adapter's bundle merged into it; template and tokenizer are the bundle's.

    Merged in float32 and rounded once, as the model server does: 1.7 times the tokens a second of an unmerged adapter.
    """
    if adapter is None:
        return load_for_serving(base, device=device), load_tokenizer(base)
    check_safe(adapter)
    if base_of(adapter) != base_digest:
        raise Invalid("the adapter belongs to another base", code="base_mismatch")
    wide = load_for_serving(base, device=device, dtype=torch.float32)
    merged = cast(Any, load_adapter(wide, adapter, is_trainable=False)).merge_and_unload(safe_merge=True)
    return merged.to(torch.bfloat16).eval(), load_tokenizer(adapter)


def answers_of(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[PromptLine], settings: Generation
) -> Iterator[AnswerLine]:
    """Yield the answers as they end, each as the model server would write it, whoever is written beside it."""
    network, stop = prepared(model), stop_id(tokenizer)
    for number, temperature in enumerate(settings.temperatures):
        waiting = deque(prompts)
        batch, under_way = Batch(network), dict[Text, _UnderWay]()
        while waiting or under_way:
            while waiting and batch.has_room and len(under_way) < settings.batch:
                one = _joined(batch, tokenizer, waiting.popleft(), settings, number=number)
                under_way[one.text] = one
            for text, one in list(under_way.items()):
                if text.ids[-1] == stop or len(text.ids) >= settings.max_new_tokens:
                    batch.leave(text)
                    del under_way[text]
                    yield _line(tokenizer, one, temperature=temperature)
            if under_way:
                began = time.monotonic()
                batch.write()
                share_ms = (time.monotonic() - began) * 1000 / len(under_way)
                for one in under_way.values():
                    one.latency_ms += share_ms


@dataclass(slots=True)
class _UnderWay:
    """An answer that is being written; `latency_ms` is its share of the time that the batch took."""

    prompt_id: str
    prompt_tokens: int
    text: Text
    latency_ms: float


def _joined(
    batch: Batch, tokenizer: PreTrainedTokenizerBase, prompt: PromptLine, settings: Generation, *, number: int
) -> _UnderWay:
    began = time.monotonic()
    ids = token_ids(tokenizer, render_prompt(tokenizer, [each.model_dump() for each in prompt.messages]))
    seed = int.from_bytes(hashlib.sha256(f"{settings.seed}|{number}|{prompt.id}".encode()).digest()[:7])
    text = batch.join(ids, Sampling(settings.temperatures[number], seed=seed))
    return _UnderWay(prompt.id, len(ids), text, (time.monotonic() - began) * 1000)


def _line(tokenizer: PreTrainedTokenizerBase, one: _UnderWay, *, temperature: float) -> AnswerLine:
    ids = one.text.ids
    is_stopped = ids[-1] == stop_id(tokenizer)
    text = str(tokenizer.decode(ids[:-1] if is_stopped else ids, skip_special_tokens=True))
    return AnswerLine(
        id=one.prompt_id,
        temperature=temperature,
        text=text.strip(),
        stop_reason="stop" if is_stopped else "length",
        prompt_tokens=one.prompt_tokens,
        completion_tokens=len(ids),
        latency_ms=one.latency_ms,
    )
