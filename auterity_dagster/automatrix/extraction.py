"""Fields that a model read out of a text: each value stands only if its quote is in the text and says it."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast

from auterity_dagster.errors import Invalid

QUOTE_LIMIT = 500
FieldType = Literal["text", "integer", "number", "boolean", "choice"]
FieldValue = str | int | float | bool | None

_NUMBER = re.compile(r"(?<![\w.])(\d[\d,]*(?:\.\d+)?)\s?([kK]\b)?")


@dataclass(frozen=True, slots=True)
class WantedField:
    """One field to read; `choices` are the only values of a `choice`."""

    type: FieldType
    about: str
    choices: tuple[str, ...] = ()

    @property
    def line(self) -> str:
        """How a prompt describes it, without the name."""
        values = f" of {', '.join(self.choices)}" if self.choices else ""
        return f"{self.type}{values}: {self.about}"


@dataclass(frozen=True, slots=True)
class Span:
    """Where a quote stands: `text[start:end]`."""

    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True)
class Extraction:
    """What was read and holds; a `violation` is `code: field` of a value that was dropped."""

    fields: Mapping[str, FieldValue]
    quotes: Mapping[str, Span | None]
    violations: tuple[str, ...]


def read_answer(answer: str) -> tuple[Mapping[str, object], Mapping[str, object]]:
    """Return the values and the quotes of a model's answer. Raises `Invalid` if it is not of the form asked for."""
    document = _json_object(answer)
    values, quotes = document.get("fields"), document.get("quotes")
    if not isinstance(values, dict) or not isinstance(quotes, dict):
        raise Invalid('the answer needs the objects "fields" and "quotes"', code="invalid_output")
    return cast("dict[str, object]", values), cast("dict[str, object]", quotes)


def verified(
    values: Mapping[str, object], quotes: Mapping[str, object], *, text: str, wanted: Mapping[str, WantedField]
) -> Extraction:
    """Keep what the text supports; everything else becomes null, whatever the model was talked into."""
    fields: dict[str, FieldValue] = {}
    spans: dict[str, Span | None] = {}
    violations = [f"unknown_field: {name[:64]}" for name in values if name not in wanted]
    for name, field in wanted.items():
        value, quote = values.get(name), quotes.get(name)
        fields[name], spans[name] = None, None
        if value is None:
            continue
        if not _has_type(value, field):
            violations.append(f"wrong_type: {name}")
            continue
        span = _found(quote, text) if isinstance(quote, str) else None
        if span is None:
            violations.append(f"quote_not_in_text: {name}")
        elif not _says(span.text, value, field):
            violations.append(f"not_in_quote: {name}")
        else:
            fields[name], spans[name] = cast("FieldValue", value), span
    return Extraction(fields, spans, tuple(violations))


def _json_object(answer: str) -> dict[str, object]:
    start, end = answer.find("{"), answer.rfind("}")
    if start < 0 or end < start:
        raise Invalid("the answer holds no JSON object", code="invalid_output")
    try:
        document: object = json.loads(answer[start : end + 1])
    except (ValueError, RecursionError) as error:
        raise Invalid("the answer is no JSON", code="invalid_output") from error
    return cast("dict[str, object]", document)


def _has_type(value: object, field: WantedField) -> bool:
    if isinstance(value, bool):
        return field.type == "boolean"
    if isinstance(value, int):
        return field.type in ("integer", "number")
    if isinstance(value, float):
        return field.type == "number"
    return isinstance(value, str) and (field.type == "text" or (field.type == "choice" and value in field.choices))


def _found(quote: str, text: str) -> Span | None:
    """Find a quote whatever its case and white space, which models fold."""
    words = quote.split()
    if not words or len(quote) > QUOTE_LIMIT:
        return None
    match = re.search(r"\s+".join(re.escape(word) for word in words), text, re.IGNORECASE)
    return None if match is None else Span(match.start(), match.end(), match[0])


def _says(quote: str, value: object, field: WantedField) -> bool:
    if field.type == "text":
        return _folded(str(value)) in _folded(quote) and bool(str(value).strip())
    if field.type in ("integer", "number"):
        return float(cast("int | float", value)) in {_number(match) for match in _NUMBER.finditer(quote)}
    return True


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())


def _number(match: re.Match[str]) -> float:
    return float(match[1].replace(",", "")) * (1000 if match[2] else 1)
