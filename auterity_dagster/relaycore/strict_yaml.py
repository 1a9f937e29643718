"""YAML 1.2 as an operator writes it: bounded, no duplicate keys, no aliases, mistakes as paths with reasons."""

from dataclasses import dataclass
from typing import cast

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import AliasEvent

from auterity_dagster.errors import ConfigurationInvalid

TEXT_LIMIT = 1_000_000


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


def read_yaml(text: str, *, source: str) -> object:
    """Parse a document. Raises `ConfigurationInvalid` for one that is too long, too deep, or no YAML 1.2.

    An alias is refused: a short text with aliases of aliases can stand for one without end.
    """
    if len(text) > TEXT_LIMIT:
        raise refused(source, Mistake("", f"the text has more than {TEXT_LIMIT} characters"))
    try:
        events = YAML(pure=True).parse(text) if "*" in text else ()  # pyright: ignore[reportUnknownMemberType]
        if any(isinstance(event, AliasEvent) for event in events):
            raise refused(source, Mistake("", "aliases (`*name`) are not supported: write the value out"))
        return cast(object, YAML(typ="safe", pure=True).load(text))  # pyright: ignore[reportUnknownMemberType]
    except YAMLError as error:
        raise refused(source, Mistake("", " ".join(str(error).split()))) from error
    except RecursionError as error:
        raise refused(source, Mistake("", "the document is nested too deeply")) from error
    except ValueError as error:  # a value such as the date 2026-13-45
        raise refused(source, Mistake("", " ".join(str(error).split()))) from error


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
