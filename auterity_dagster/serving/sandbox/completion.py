"""One answer of the sandbox, before it takes the form of a wire: text, tokens, what is billed and what is said."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from auterity_dagster.errors import Invalid
from auterity_dagster.serving.sandbox import tokenizer
from auterity_dagster.serving.sandbox.bill import MODELS
from auterity_dagster.serving.sandbox.faults import Fault
from auterity_dagster.serving.sandbox.replies import Prompt, reply
from auterity_dagster.serving.sandbox.verdicts import answer_for_schema


@dataclass(frozen=True, slots=True)
class Asked:
    """A request of either wire."""

    model: str
    messages: Sequence[tuple[str, str]]
    max_tokens: int
    schema: Mapping[str, Any] | None
    is_json_wanted: bool


@dataclass(frozen=True, slots=True)
class Completion:
    """An answer: `pieces` are its tokens; `said` what the usage report says (None: no report).

    `said_first` is what an earlier report of the same stream says, `bills_what_it_says` whether `said` is also owed.
    """

    pieces: tuple[str, ...]
    is_cut_short: bool
    prompt_tokens: int
    said: tuple[int, float] | None
    said_first: tuple[int, float] | None = None
    bills_what_it_says: bool = False

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    def billed(self, sent_pieces: int) -> tuple[int, int]:
        """Return the prompt and completion tokens that are billed after so many pieces were sent."""
        if sent_pieces == len(self.pieces) and self.said is not None and self.bills_what_it_says:
            return self.said[0], int(self.said[1])
        return self.prompt_tokens, sent_pieces


def complete(asked: Asked, *, fault: Fault | None, seed: int) -> Completion:
    """Return the answer; the same request, fault and seed give the same. Raises `Invalid` for an unknown model."""
    if asked.model not in MODELS:
        raise Invalid(f"the sandbox has {' and '.join(MODELS)}", code="model_not_found", field="model")
    prompt_tokens = tokenizer.prompt_tokens(text for _, text in asked.messages)
    pieces = tokenizer.pieces('{"unasked": true}' if fault == "broken_schema" else _text(asked, seed=seed))
    granted = tuple(pieces[: asked.max_tokens]) if fault != "empty" else ()
    count = len(granted)
    wrong: Mapping[str, tuple[int, float] | None] = {
        "usage_absent": None,
        "usage_zero": (0, 0),
        "usage_negative": (prompt_tokens, -1),
        "usage_too_high": (prompt_tokens, 10 * asked.max_tokens),
        "usage_nan": (prompt_tokens, float("nan")),
    }
    first: Mapping[str, float] = {"usage_twice": count // 2, "usage_falling": 2 * count}
    return Completion(
        granted,
        count < len(pieces),
        prompt_tokens,
        said=wrong.get(fault or "", (prompt_tokens, count)),
        said_first=(prompt_tokens, first[fault]) if fault in first else None,
        bills_what_it_says=fault in ("usage_zero", "usage_too_high"),
    )


def _text(asked: Asked, *, seed: int) -> str:
    system = "\n".join(text for role, text in asked.messages if role == "system")
    user = next((text for role, text in reversed(asked.messages) if role == "user"), "")
    if asked.schema is not None:
        return json.dumps(answer_for_schema(asked.schema, user))
    if asked.is_json_wanted and "sort service requests" not in system:
        return json.dumps({"answer": reply(Prompt(system, user), model=asked.model, seed=seed)})
    return reply(Prompt(system, user), model=asked.model, seed=seed)
