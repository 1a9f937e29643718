"""Evaluation suites that somebody else wrote, added by a file: `config/suites/*.yaml`, one suite a file.

Each item fills the prompt of its suite's family, or brings its own messages, and is marked by comparing with answers.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from auterity_dagster.errors import ConfigurationInvalid, Invalid
from auterity_dagster.neuroweaver.configuration import read_configuration
from auterity_dagster.neuroweaver.example import EvaluationItem, Family, Message, item_id
from auterity_dagster.neuroweaver.suites.generator import CRITICAL_RULES, SUITE_CANARY
from auterity_dagster.prompt import PromptTemplate


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ExternalItem(_Part):
    """One question: `values` for the family's prompt, or `messages`; any of `answers` is right."""

    values: Mapping[str, str] | None = None
    messages: tuple[Message, ...] | None = Field(default=None, min_length=2, max_length=64)
    answers: tuple[str, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _asks_one_way(self) -> Self:
        if (self.values is None) == (self.messages is None):
            raise ValueError("an item has `values` or `messages`")
        return self


class ExternalSuite(_Part):
    """One file. `exact_match` compares the whole answer, without case and white space; `contains` looks for it."""

    suite: str = Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")
    version: int = Field(ge=1)
    family: Family
    scorer: Literal["exact_match", "contains"]
    licence: str = Field(min_length=1, max_length=64)
    items: tuple[ExternalItem, ...] = Field(min_length=1)


def external_items(folder: Path, prompts: Mapping[str, PromptTemplate]) -> tuple[EvaluationItem, ...]:
    """Return the items of every suite file of a folder, by file name; none if there is no folder.

    Raises `ConfigurationInvalid` naming the file and the item.
    """
    found: list[EvaluationItem] = []
    for path in sorted(folder.glob("*.yaml")):
        suite = read_configuration(path, ExternalSuite)
        for number, item in enumerate(suite.items):
            try:
                found.append(_item(suite, item, prompts[suite.family.value]))
            except Invalid as error:
                raise ConfigurationInvalid(f"{path}: items.{number}: {error.message}") from error
    return tuple(found)


def _item(suite: ExternalSuite, item: ExternalItem, prompt: PromptTemplate) -> EvaluationItem:
    values = item.values
    if item.messages is not None:
        messages = item.messages
    else:
        system, user = prompt.render(values or {})
        messages = (Message(role="system", content=system), Message(role="user", content=user))
    question = (values or {}).get("question", messages[-1].content)
    answers: list[JsonValue] = [*item.answers]
    expected: dict[str, JsonValue] = {"question": question, "answers": answers, "reference": item.answers[0]}
    own_id = item_id(suite.family, messages, expected)
    facts = (values or {}).get("facts", "")
    return EvaluationItem(
        item_id=own_id,
        family=suite.family,
        messages=messages,
        facts=facts,
        expected=expected,
        scorer=suite.scorer,
        # Without facts every price would be an invented one.
        critical_rules=CRITICAL_RULES[suite.family] if facts else (),
        cluster=own_id,
        origin=f"external:{suite.suite}@{suite.version}",
        canary_guid=SUITE_CANARY,
    )
