"""YAML 1.2 as an operator writes it: bounded, no duplicate keys, no aliases, mistakes as paths with reasons."""

from dataclasses import dataclass
from typing import Protocol, cast

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import NodeEvent

from auterity_dagster.errors import ConfigurationInvalid

TEXT_LIMIT = 1_000_000
REASON_LIMIT = 300
TOLD_LIMIT = 20


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing that is wrong: where it stands, and why it is refused."""

    path: str
    reason: str


def refused(source: str, *mistakes: Mistake) -> ConfigurationInvalid:
    """Return the error for a file: a line a mistake in its message, and the same in `details["mistakes"]`."""
    lines = [f"{source}: {one.path}: {one.reason}" if one.path else f"{source}: {one.reason}" for one in mistakes]
    told = tuple({"file": source, "path": one.path, "reason": one.reason} for one in mistakes)
    return ConfigurationInvalid("\n".join(lines), mistakes=told)


def told_mistakes(error: ConfigurationInvalid) -> list[dict[str, str]]:
    """Return the first mistakes of such an error as they are stored and audited, each reason cut to 300 characters."""
    mistakes = cast(tuple[dict[str, str], ...], error.details.get("mistakes", ()))
    if not mistakes:
        return [{"file": "", "path": "", "reason": error.message[:REASON_LIMIT]}]
    return [{**one, "reason": one["reason"][:REASON_LIMIT]} for one in mistakes[:TOLD_LIMIT]]


def read_yaml(text: str, *, source: str) -> object:
    """Parse a document. Raises `ConfigurationInvalid` for one that is too long, too deep, or no YAML 1.2.

    An alias is refused: a short text with aliases of aliases can stand for one without end.
    """
    if len(text) > TEXT_LIMIT:
        raise refused(source, Mistake("", f"the text has more than {TEXT_LIMIT} characters"))
    try:
        may_alias = "&" in text or "*" in text
        events = YAML(pure=True).parse(text) if may_alias else ()  # pyright: ignore[reportUnknownMemberType]
        nodes = (cast(_Node, event) for event in events if isinstance(event, NodeEvent))
        if (named := next((node for node in nodes if node.anchor is not None), None)) is not None:
            reason = "anchors and aliases (`&name`, `*name`) are not supported: write the value out"
            raise refused(source, Mistake(_place(named.start_mark), reason))
        return cast(object, YAML(typ="safe", pure=True).load(text))  # pyright: ignore[reportUnknownMemberType]
    except MarkedYAMLError as error:
        raise refused(source, _unreadable(cast(_Marked, error))) from error
    except YAMLError as error:
        raise refused(source, Mistake("", " ".join(str(error).split()))) from error
    except RecursionError as error:
        raise refused(source, Mistake("", "the document is nested too deeply")) from error
    except ValueError as error:  # a value such as the date 2026-13-45
        raise refused(source, Mistake("", " ".join(str(error).split()))) from error
    except LookupError as error:  # a value that is not what its tag says, such as `!!bool maybe`
        raise refused(source, Mistake("", "a value does not fit the tag before it (`!!…`)")) from error


def mistakes_of(error: ValidationError) -> tuple[Mistake, ...]:
    """Return what a model refuses, each with its path."""
    found: list[Mistake] = []
    for one in error.errors(include_url=False, include_context=False):
        path = ".".join(str(part) for part in one["loc"])
        reason = one["msg"].removeprefix("Value error, ")
        if not path and reason.partition(": ")[2]:
            path, _, reason = reason.partition(": ")
        found.append(Mistake(path, reason))
    return tuple(found)


class _Mark(Protocol):
    line: int
    column: int


class _Node(Protocol):
    anchor: str | None
    start_mark: _Mark


class _Marked(Protocol):
    context: str | None
    problem: str | None
    context_mark: _Mark | None
    problem_mark: _Mark | None


def _unreadable(error: _Marked) -> Mistake:
    """What the parser says, without the excerpts and values of the text that it adds."""
    mark = error.problem_mark or error.context_mark
    said = " ".join(" ".join(part for part in (error.context, error.problem) if part).split())
    reason = said.partition(" with value ")[0] or "this is no YAML 1.2"
    return Mistake(_place(mark) if mark is not None else "", reason)


def _place(mark: _Mark) -> str:
    return f"line {mark.line + 1}, column {mark.column + 1}"
