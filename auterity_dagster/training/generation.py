"""Batched answers in bfloat16 from a base with or without an adapter: for AI feedback, evaluation and live parity."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from auterity_dagster.errors import Invalid
from auterity_dagster.neuroweaver.jsonl import canonical_lines
from auterity_dagster.neuroweaver.stage import AnswerLine, Generation, PromptLine
from auterity_dagster.training.adapter import base_of, check_safe, load_adapter
from auterity_dagster.training.base_model import device_of, load_for_serving, load_tokenizer
from auterity_dagster.training.chat_format import pad_id, render_prompt, stop_id, token_ids
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
        answers += answered
        run.progress.step(len(answers), total, {"tokens": float(sum(each.completion_tokens for each in answers))})
        if run.stop.is_set:
            raise TrainingStopped(len(answers), total)
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
) -> Iterator[list[AnswerLine]]:
    """Yield the answers batch by batch, prompts of similar length together."""
    encoded = [
        (prompt.id, token_ids(tokenizer, render_prompt(tokenizer, [each.model_dump() for each in prompt.messages])))
        for prompt in prompts
    ]
    encoded.sort(key=lambda each: (len(each[1]), each[0]))
    for number, temperature in enumerate(settings.temperatures):
        torch.manual_seed(settings.seed + number)
        for start in range(0, len(encoded), settings.batch):
            batch = encoded[start : start + settings.batch]
            began = time.monotonic()
            outputs = generate(
                model,
                tokenizer,
                [ids for _, ids in batch],
                max_new_tokens=settings.max_new_tokens,
                temperature=temperature,
            )
            share_ms = (time.monotonic() - began) * 1000 / len(batch)
            yield [
                _line(
                    tokenizer,
                    prompt_id,
                    output,
                    temperature=temperature,
                    prompt_tokens=len(prompt),
                    latency_ms=share_ms,
                )
                for (prompt_id, prompt), output in zip(batch, outputs, strict=True)
            ]


@torch.no_grad()
def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    temperature: float,
) -> list[list[int]]:
    """Return each prompt's new ids up to and with the stop token, if it came; padded on the left, so that all align."""
    width = max(len(ids) for ids in prompts)
    padding = pad_id(tokenizer)
    ids = torch.tensor([[padding] * (width - len(each)) + list(each) for each in prompts], device=model.device)
    mask = torch.tensor([[0] * (width - len(each)) + [1] * len(each) for each in prompts], device=model.device)
    sampling = {"do_sample": True, "temperature": temperature} if temperature > 0 else {"do_sample": False}
    output = cast(Any, model).generate(
        input_ids=ids,
        attention_mask=mask,
        generation_config=GenerationConfig(
            max_new_tokens=max_new_tokens,
            pad_token_id=padding,
            eos_token_id=stop_id(tokenizer),
            top_k=0 if temperature > 0 else None,
            **sampling,
        ),
    )
    return [_until_stop(row, stop_id(tokenizer)) for row in output[:, width:].tolist()]


def _until_stop(ids: list[int], stop: int) -> list[int]:
    return ids[: ids.index(stop) + 1] if stop in ids else ids


def _line(
    tokenizer: PreTrainedTokenizerBase,
    prompt_id: str,
    ids: list[int],
    *,
    temperature: float,
    prompt_tokens: int,
    latency_ms: float,
) -> AnswerLine:
    is_stopped = bool(ids) and ids[-1] == stop_id(tokenizer)
    text = str(tokenizer.decode(ids[:-1] if is_stopped else ids, skip_special_tokens=True))
    return AnswerLine(
        id=prompt_id,
        temperature=temperature,
        text=text.strip(),
        stop_reason="stop" if is_stopped else "length",
        prompt_tokens=prompt_tokens,
        completion_tokens=len(ids),
        latency_ms=latency_ms,
    )
