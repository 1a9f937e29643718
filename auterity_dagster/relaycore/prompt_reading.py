"""A request's prompt as learned predictors read it, and what they say of it: texts of messages, without pictures."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import cast

from auterity_dagster.relaycore.catalog import CatalogSnapshot
from auterity_dagster.relaycore.chat import ChatRequest
from auterity_dagster.relaycore.predicted_quality import ActivePredictor
from auterity_dagster.relaycore.prompt_features import prompt_text


def with_predictions(
    snapshot: CatalogSnapshot, predictors: Sequence[ActivePredictor], request: ChatRequest, body: Mapping[str, object]
) -> CatalogSnapshot:
    """Return the snapshot with what each predictor says of a chat's prompt."""
    if not predictors or request.kind != "chat":
        return snapshot
    prompt = written_prompt(body)
    return replace(snapshot, predictions=tuple(one.predict(prompt, request.task) for one in predictors))


def written_prompt(body: Mapping[str, object]) -> str:
    """Return the prompt of a chat body of either wire; what is no text (pictures, calls of tools) is left out."""
    messages = body.get("messages")
    listed = cast(list[object], messages) if isinstance(messages, list) else []
    contents = [body.get("system"), *(_member(one, "content") for one in listed)]
    return prompt_text("".join(_texts(content)) for content in contents if content)


def _texts(content: object) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    elif isinstance(content, list):
        for part in cast(list[object], content):
            text = _member(part, "text")
            if isinstance(text, str):
                yield text


def _member(value: object, name: str) -> object:
    return cast(Mapping[str, object], value).get(name) if isinstance(value, dict) else None
