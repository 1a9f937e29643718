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
    """An answer: `pieces` are its tokens; `said` what the usage report says (None: no report)."""

    pieces: tuple[str, ...]
    is_cut_short: bool
    prompt_tokens: int
    said: tuple[int, int] | None

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    def billed(self, sent_pieces: int) -> tuple[int, int]:
        """Return the prompt and completion tokens that are billed after so many pieces were sent."""
        full = sent_pieces == len(self.pieces) and self.said is not None and min(self.said) >= 0
        return self.said if full and self.said is not None else (self.prompt_tokens, sent_pieces)


def complete(asked: Asked, *, fault: Fault | None, seed: int) -> Completion:
    """Return the answer; the same request, fault and seed give the same. Raises `Invalid` for an unknown model."""
    if asked.model not in MODELS:
        raise Invalid(f"the sandbox has {' and '.join(MODELS)}", code="model_not_found", field="model")
    prompt_tokens = tokenizer.prompt_tokens(text for _, text in asked.messages)
    pieces = tokenizer.pieces(_text(asked, seed=seed))
    granted = tuple(pieces[: asked.max_tokens]) if fault != "empty" else ()
    said: tuple[int, int] | None = (prompt_tokens, len(granted))
    if fault == "usage_absent":
        said = None
    elif fault == "usage_zero":
        said = (0, 0)
    elif fault == "usage_negative":
        said = (prompt_tokens, -1)
    elif fault == "usage_too_high":
        said = (prompt_tokens, 10 * asked.max_tokens)
    return Completion(granted, len(granted) < len(pieces), prompt_tokens, said)


def _text(asked: Asked, *, seed: int) -> str:
    system = "\n".join(text for role, text in asked.messages if role == "system")
    user = next((text for role, text in reversed(asked.messages) if role == "user"), "")
    if asked.schema is not None:
        return json.dumps(answer_for_schema(asked.schema, user))
    if asked.is_json_wanted and "sort service requests" not in system:
        return json.dumps({"answer": reply(Prompt(system, user), model=asked.model, seed=seed)})
    return reply(Prompt(system, user), model=asked.model, seed=seed)
