"""CEL expressions: checked and compiled at publication, evaluated on data that is never parsed again.

The loop macros are refused before the parser sees them: four nested ones over 20 items take 39 ms, and native code
cannot be interrupted. What is left does work in proportion to its own length.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from cel_expr_python import cel  # pyright: ignore[reportMissingTypeStubs]

from auterity_dagster.errors import Invalid

SCOPE = ("event", "vars", "steps", "execution", "organization", "dealership")
"""The names an expression may begin with."""

LENGTH_LIMIT = 2000
DEPTH_LIMIT = 16
RESULT_LIMIT_BYTES = 64 * 1024

FUNCTIONS = frozenset({"has", "size", "contains", "startsWith", "endsWith", "matches", "int", "double", "string"})
_MACROS = frozenset({"all", "exists", "exists_one", "existsOne", "map", "filter", "transformList", "transformMap"})
_LITERAL = re.compile(r"""(?:[rRbB]{0,2})('''.*?'''|\"\"\".*?\"\"\"|'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*")""", re.DOTALL)
_CALL = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)\s*\(")
_STEP = re.compile(r"(?<![.\w])steps\b(?:\s*\.\s*([A-Za-z_][A-Za-z0-9_]*))?")
_VARIABLE = re.compile(r"(?<![.\w])vars\s*\.\s*([A-Za-z_][A-Za-z0-9_]*)")
_ROOT = re.compile(r"(?<![.\w])([A-Za-z_][A-Za-z0-9_]*)(?!\s*\()")
_FINDINGS = re.compile(r"(?<![.\w])event\b(?!\s*\.\s*(?:id|type|subject|time|data)\b)")
_JSON_TYPES = ("BOOL", "INT", "UINT", "DOUBLE", "STRING", "NULL", "LIST", "MAP")


class ExpressionFailed(Invalid):
    """An expression did not compile, or could not be evaluated on the data at hand."""

    code = "expression_failed"


class Expression(Protocol):
    """A compiled expression."""

    @property
    def step_ids(self) -> frozenset[str]:
        """The steps whose results it reads."""
        ...

    @property
    def variable_names(self) -> frozenset[str]:
        """The variables that it reads."""
        ...

    @property
    def roots(self) -> frozenset[str]:
        """The names of the scope that it begins from."""
        ...

    @property
    def reads_findings(self) -> bool:
        """True if it may read `event.findings`: what a step of another workflow, and so a model, may have written."""
        ...

    @property
    def is_boolean(self) -> bool:
        """False if the compiler knows that the result is no truth value."""
        ...

    def evaluate(self, scope: Mapping[str, object]) -> object:
        """Return a JSON value. Raises `ExpressionFailed`."""
        ...

    def holds(self, scope: Mapping[str, object]) -> bool:
        """Return the truth value. Raises `ExpressionFailed` for anything but a BOOL: an error is true in Python."""
        ...


class ExpressionEngine(Protocol):
    """Compiles expressions."""

    def compile(self, source: str) -> Expression:
        """Raises `ExpressionFailed` saying what is wrong and what was expected."""
        ...

    def with_names(self, names: frozenset[str]) -> "ExpressionEngine":
        """Return an engine whose expressions may begin with these names too."""
        ...


class CelEngine:
    """The engine over Google's C++ implementation."""

    def __init__(self, names: frozenset[str] = frozenset()) -> None:
        self._names = frozenset(SCOPE) | names
        self._environment: Any = cel.NewEnv(variables=dict.fromkeys(sorted(self._names), cel.Type.DYN))

    def with_names(self, names: frozenset[str]) -> "CelEngine":
        return CelEngine(names)

    def compile(self, source: str) -> "CelExpression":
        """Compile one expression. Raises `ExpressionFailed`."""
        bare = _LITERAL.sub("''", source)
        _check_size(source, bare)
        _check_calls(source, bare)
        try:
            compiled = self._environment.compile(source)
        except RuntimeError as error:
            raise ExpressionFailed(f"{source!r}: {_first_line(str(error))}", expression=source) from error
        return CelExpression(
            source=source,
            step_ids=frozenset(match[1] for match in _STEP.finditer(bare) if match[1]),
            variable_names=frozenset(match[1] for match in _VARIABLE.finditer(bare)),
            roots=frozenset(match[1] for match in _ROOT.finditer(bare)) & self._names,
            reads_findings=_FINDINGS.search(bare) is not None,
            compiled=compiled,
        )


@dataclass(frozen=True, slots=True)
class CelExpression:
    """One compiled CEL expression."""

    source: str
    step_ids: frozenset[str]
    variable_names: frozenset[str]
    roots: frozenset[str]
    reads_findings: bool
    compiled: Any

    @property
    def is_boolean(self) -> bool:
        return self.compiled.return_type().name() in ("BOOL", "DYN")

    def evaluate(self, scope: Mapping[str, object]) -> object:
        value = self.compiled.eval(data=dict(scope))
        kind = value.type().name()
        if kind.partition("<")[0] not in _JSON_TYPES:
            raise ExpressionFailed(f"{self.source!r}: {_first_line(str(value.value()))}", expression=self.source)
        plain = value.plain_value()
        if len(json.dumps(plain)) > RESULT_LIMIT_BYTES:
            raise ExpressionFailed(
                f"{self.source!r} gives more than {RESULT_LIMIT_BYTES} bytes", expression=self.source
            )
        return plain

    def holds(self, scope: Mapping[str, object]) -> bool:
        value = self.evaluate(scope)
        if not isinstance(value, bool):
            raise ExpressionFailed(
                f"{self.source!r} gives {value!r}, true or false was expected", expression=self.source
            )
        return value


def _check_size(source: str, bare: str) -> None:
    if len(source) > LENGTH_LIMIT:
        raise ExpressionFailed(f"an expression has {len(source)} characters, {LENGTH_LIMIT} are allowed")
    depth = deepest = 0
    for character in bare:
        depth += (character in "([{") - (character in ")]}")
        deepest = max(deepest, depth)
    if deepest > DEPTH_LIMIT or re.search(rf"[!\-]{{{DEPTH_LIMIT}}}", re.sub(r"\s", "", bare)):
        raise ExpressionFailed(f"{source!r} nests deeper than {DEPTH_LIMIT} levels", expression=source)


def _check_calls(source: str, bare: str) -> None:
    for match in _CALL.finditer(bare):
        name = match[1]
        if name in _MACROS:
            raise ExpressionFailed(f"{source!r}: the macro `{name}` is not allowed: no loops", expression=source)
        if name not in FUNCTIONS and name != "in":
            raise ExpressionFailed(
                f"{source!r}: the function `{name}` is not known; there are {', '.join(sorted(FUNCTIONS))}",
                expression=source,
            )
    if any(match[1] is None for match in _STEP.finditer(bare)):
        raise ExpressionFailed(f"{source!r}: name the step, as in `steps.draft.output`", expression=source)


def _first_line(text: str) -> str:
    return text.partition("\n")[0].removeprefix("INVALID_ARGUMENT: ").removeprefix("ERROR: ")
