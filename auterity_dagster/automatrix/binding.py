"""`${{ … }}` in a step's inputs: cut out once at publication, filled with data at run time and never parsed again."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from auterity_dagster.automatrix.expression import Expression, ExpressionEngine, ExpressionFailed

_HOLE = re.compile(r"\$\{\{(.*?)\}\}", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Text:
    """A string with expressions inside: every result becomes text."""

    parts: tuple[str | Expression, ...]


Binding = Expression | Text | tuple["Binding", ...] | Mapping[str, "Binding"] | str | int | float | bool | None
"""A value of a step's `with`: literals as they stand, expressions compiled."""


def bind(value: object, engine: ExpressionEngine) -> Binding:
    """Compile every `${{ … }}` of a JSON value. A string that is one expression keeps its type.

    Raises `ExpressionFailed`.
    """
    if isinstance(value, str):
        return _bind_text(value, engine)
    if isinstance(value, Mapping):
        return {str(key): bind(one, engine) for key, one in cast("Mapping[object, object]", value).items()}
    if isinstance(value, Sequence):
        return tuple(bind(one, engine) for one in cast("Sequence[object]", value))
    if value is None or isinstance(value, bool | int | float):
        return value
    raise ExpressionFailed(f"{value!r} is no JSON value")


def fill(binding: Binding, scope: Mapping[str, object]) -> object:
    """Return the JSON value with every expression evaluated. Raises `ExpressionFailed`."""
    if isinstance(binding, Text):
        return "".join(part if isinstance(part, str) else _as_text(part.evaluate(scope)) for part in binding.parts)
    if isinstance(binding, Mapping):
        return {key: fill(one, scope) for key, one in binding.items()}
    if isinstance(binding, tuple):
        return [fill(one, scope) for one in binding]
    if binding is None or isinstance(binding, str | bool | int | float):
        return binding
    return binding.evaluate(scope)


def expressions(binding: Binding) -> Iterator[Expression]:
    """Yield every expression inside."""
    if isinstance(binding, Text):
        yield from (part for part in binding.parts if not isinstance(part, str))
    elif isinstance(binding, Mapping):
        for one in binding.values():
            yield from expressions(one)
    elif isinstance(binding, tuple):
        for one in binding:
            yield from expressions(one)
    elif not (binding is None or isinstance(binding, str | bool | int | float)):
        yield binding


def _bind_text(text: str, engine: ExpressionEngine) -> Binding:
    holes = list(_HOLE.finditer(text))
    if text.count("${{") != len(holes):
        raise ExpressionFailed(f"{text!r}: `${{{{` without its `}}}}`")
    if not holes:
        return text
    if len(holes) == 1 and holes[0].span() == (0, len(text)):
        return engine.compile(holes[0][1].strip())
    parts: list[str | Expression] = []
    position = 0
    for hole in holes:
        parts += [text[position : hole.start()], engine.compile(hole[1].strip())]
        position = hole.end()
    return Text((*parts, text[position:]))


def _as_text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    raise ExpressionFailed(f"a text cannot take {type(value).__name__}: use the value alone, as `${{{{ … }}}}`")
