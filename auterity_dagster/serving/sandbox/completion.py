"""One answer of the sandbox, before it takes the form of a wire: blocks, tokens, what is billed and what is said."""

import json
from dataclasses import dataclass, replace
from typing import Literal

from auterity_dagster.errors import Invalid
from auterity_dagster.serving.sandbox import tokenizer
from auterity_dagster.serving.sandbox.asked import Asked
from auterity_dagster.serving.sandbox.bill import CHAT_MODELS
from auterity_dagster.serving.sandbox.faults import Fault
from auterity_dagster.serving.sandbox.replies import Prompt, reply
from auterity_dagster.serving.sandbox.tool_calls import tool_calls
from auterity_dagster.serving.sandbox.verdicts import answer_for_schema

UNASKED = '{"unasked": true}'
THOUGHT = "The sandbox follows written rules, so there is little to think about here. "


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as a report says them; `prompt` contains the cached ones, `completion` the reasoning.

    `completion` is no whole number where the report is wrong on purpose.
    """

    prompt: int
    completion: float
    cache_read: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    reasoning: int = 0


@dataclass(frozen=True, slots=True)
class Block:
    """A part of an answer; `pieces` are its tokens. A call of a tool has an id and a name."""

    kind: Literal["thinking", "text", "tool"]
    pieces: tuple[str, ...]
    id: str = ""
    name: str = ""

    @property
    def text(self) -> str:
        """The whole of it."""
        return "".join(self.pieces)


@dataclass(frozen=True, slots=True)
class Completion:
    """An answer: its blocks, why it ends, what it used, and what the usage report says (None: no report).

    `said_first` is what an earlier report of the same stream says, `bills_what_it_says` whether `said` is also owed.
    """

    blocks: tuple[Block, ...]
    is_cut_short: bool
    stopped_by: str | None
    used: Usage
    said: Usage | None
    said_first: Usage | None = None
    bills_what_it_says: bool = False

    @property
    def output_tokens(self) -> int:
        """How many tokens the answer has."""
        return sum(len(block.pieces) for block in self.blocks)

    @property
    def has_calls(self) -> bool:
        """True if it calls a tool."""
        return any(block.kind == "tool" for block in self.blocks)

    def billed(self, sent_tokens: int) -> Usage:
        """Return what is billed after so many tokens were sent."""
        if sent_tokens == self.output_tokens and self.said is not None and self.bills_what_it_says:
            return self.said
        return replace(self.used, completion=sent_tokens)


def complete(asked: Asked, *, fault: Fault | None, seed: int) -> Completion:
    """Return the answer; the same request, fault and seed give the same. Raises `Invalid` for an unknown model."""
    if asked.model not in CHAT_MODELS:
        raise Invalid(f"the sandbox has {' and '.join(CHAT_MODELS)}", code="model_not_found", field="model")
    whole, stopped_by = _blocks(asked, seed=seed) if fault != "broken_schema" else ((_text_block(UNASKED),), None)
    blocks = _granted(whole, asked.max_tokens if fault != "empty" else 0)
    output = sum(len(block.pieces) for block in blocks)
    is_cut_short = output < sum(len(block.pieces) for block in whole)
    reasoning = sum(len(block.pieces) for block in blocks if block.kind == "thinking")
    used = replace(prompt_usage(asked), completion=output, reasoning=reasoning)
    first = {"usage_twice": output // 2, "usage_falling": 2 * output}
    return Completion(
        blocks,
        is_cut_short,
        None if is_cut_short else stopped_by,
        used,
        said=_said(used, asked, fault),
        said_first=replace(used, completion=first[fault]) if fault in first else None,
        bills_what_it_says=fault in ("usage_zero", "usage_too_high"),
    )


def prompt_usage(asked: Asked) -> Usage:
    """Return what the prompt counts."""
    counts = [(one.cache, tokenizer.MESSAGE_TOKENS + tokenizer.count(one.text)) for one in asked.messages]
    tools = sum(
        tokenizer.count(tool.name + tool.description + json.dumps(tool.parameters, ensure_ascii=False))
        for tool in asked.tools
    )
    images = sum(one.image_tokens for one in asked.messages)
    by_cache = {kind: sum(count for one, count in counts if one == kind) for kind in ("read", "write_5m", "write_1h")}
    return Usage(
        prompt=tokenizer.REQUEST_TOKENS + sum(count for _, count in counts) + tools + images,
        completion=0,
        cache_read=by_cache["read"],
        cache_write_5m=by_cache["write_5m"],
        cache_write_1h=by_cache["write_1h"],
    )


def _said(used: Usage, asked: Asked, fault: Fault | None) -> Usage | None:
    if fault == "usage_absent":
        return None
    if fault == "usage_zero":
        return Usage(0, 0)
    wrong = {"usage_negative": -1, "usage_too_high": 10 * asked.max_tokens, "usage_nan": float("nan")}
    return replace(used, completion=wrong[fault]) if fault in wrong else used


def _blocks(asked: Asked, *, seed: int) -> tuple[tuple[Block, ...], str | None]:
    thinking = (Block("thinking", tuple(tokenizer.pieces(THOUGHT))),) if asked.thinks else ()
    calls = tool_calls(asked, seed=seed)
    if calls:
        tools = (Block("tool", tuple(tokenizer.pieces(one.arguments)), one.id, one.name) for one in calls)
        return (*thinking, *tools), None
    text, stopped_by = _until_stop(_text(asked, seed=seed), asked.stops)
    return (*thinking, _text_block(text)), stopped_by


def _text_block(text: str) -> Block:
    return Block("text", tuple(tokenizer.pieces(text)))


def _until_stop(text: str, stops: tuple[str, ...]) -> tuple[str, str | None]:
    found = [(text.index(stop), stop) for stop in stops if stop in text]
    if not found:
        return text, None
    place, stop = min(found)
    return text[:place], stop


def _granted(blocks: tuple[Block, ...], limit: int) -> tuple[Block, ...]:
    granted: list[Block] = []
    for block in blocks:
        if limit > 0:
            granted.append(replace(block, pieces=block.pieces[:limit]))
            limit -= len(block.pieces)
    return tuple(granted)


def _text(asked: Asked, *, seed: int) -> str:
    system = "\n".join(one.text for one in asked.messages if one.role in ("system", "developer"))
    results = [one.text for one in asked.messages if one.is_tool_result]
    if asked.messages[-1].is_tool_result and asked.schema is None:
        return f"The tool answered: {' and '.join(results)}"
    user = next((one.text for one in reversed(asked.messages) if one.role == "user"), "")
    if asked.schema is not None:
        return json.dumps(answer_for_schema(asked.schema, user))
    if asked.is_json_wanted and "sort service requests" not in system:
        return json.dumps({"answer": reply(Prompt(system, user), model=asked.model, seed=seed)})
    return reply(Prompt(system, user), model=asked.model, seed=seed)
