"""OpenAI's embeddings as callers see them; the vectors pass as the provider's bytes."""

from collections.abc import AsyncIterator, Sequence
from typing import cast
from uuid import UUID

from auterity_dagster.errors import AuterityError, Invalid
from auterity_dagster.relaycore.answer import Answer
from auterity_dagster.relaycore.chat import ProviderAnswer, StreamFrame
from auterity_dagster.serving.relaycore.body_checks import model_name, refuse_unknown
from auterity_dagster.serving.relaycore.wire import Asked, Body, Content
from auterity_dagster.serving.relaycore.wire_errors import WireError, openai_error

_FIELDS = frozenset({"input", "model", "dimensions", "encoding_format", "user"})


class EmbeddingsWire:
    """`POST /v1/embeddings`."""

    def read(self, written: Body) -> Content:
        refuse_unknown(written, _FIELDS)
        model = model_name(written)
        if model == "auto" or "/" in model:
            raise Invalid("Name a deployment: vectors of different models cannot be compared.", field="model")
        return Content(
            body=written,
            wire="openai",
            kind="embedding",
            model=model,
            messages=_count(written.get("input")),
            max_tokens=None,
            is_stream=False,
            has_tools=False,
            needs_json=False,
        )

    def whole(self, asked: Asked, answer: Answer, given: ProviderAnswer) -> bytes:
        return given.body

    def events(self, asked: Asked, answer: Answer, frames: AsyncIterator[StreamFrame | None]) -> AsyncIterator[bytes]:
        raise NotImplementedError("no request for vectors is read as a stream")

    def error(self, error: AuterityError, *, request_id: UUID | None) -> WireError:
        return openai_error(error, request_id=request_id)


def _count(given: object) -> int:
    """How many texts are given: one, several, or the same as lists of token numbers."""
    if isinstance(given, str) and given:
        return 1
    if not isinstance(given, list) or not given:
        raise Invalid("input is a text, a list of texts, or their tokens.", field="input")
    items = cast(Sequence[object], given)
    if all(isinstance(one, str) for one in items) or all(isinstance(one, list) for one in items):
        return len(items)
    if all(isinstance(one, int) for one in items):
        return 1
    raise Invalid("input is a text, a list of texts, or their tokens.", field="input")
