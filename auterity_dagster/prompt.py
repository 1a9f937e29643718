"""Prompt templates: versioned data with declared placeholders, filled once; what was filled in is never scanned again.

Workflows send these prompts and specialised models are trained and evaluated on the same ones, so both sides read
`config/prompts/` through this module.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from auterity_dagster.errors import ConfigurationInvalid, Invalid

_PLACEHOLDER = re.compile(r"\{\{([a-z][a-z0-9_]*)\}\}")
_VALUE_LIMIT = 2000


class PromptTemplate(BaseModel):
    """One prompt: a system text and a user text with `{{name}}` placeholders, and the task steering knows it by."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str = Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")
    number: int = Field(ge=1)
    task: str = Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")
    max_output_tokens: int = Field(ge=1, le=4096)
    placeholders: tuple[str, ...]
    system: str = Field(min_length=1, max_length=4000)
    user: str = Field(min_length=1, max_length=4000)

    @model_validator(mode="after")
    def _placeholders_are_declared(self) -> "PromptTemplate":
        used = set(_PLACEHOLDER.findall(self.system)) | set(_PLACEHOLDER.findall(self.user))
        if used != set(self.placeholders):
            raise ValueError(f"the texts use {sorted(used)}, `placeholders` declares {sorted(self.placeholders)}")
        return self

    def render(self, values: Mapping[str, str]) -> tuple[str, str]:
        """Return the system and the user text with every placeholder replaced once.

        Raises `Invalid` for a missing, an unknown or an oversized value (more than 2,000 characters).
        """
        if set(values) != set(self.placeholders):
            raise Invalid(f"prompt {self.key} takes {sorted(self.placeholders)}, got {sorted(values)}", field="values")
        for name, value in values.items():
            if len(value) > _VALUE_LIMIT:
                raise Invalid(f"{name} has {len(value)} characters, {_VALUE_LIMIT} are allowed", field=name)
        return tuple(_PLACEHOLDER.sub(lambda match: values[match[1]], text) for text in (self.system, self.user))  # type: ignore[return-value]


def load_prompts(folder: Path) -> Mapping[str, PromptTemplate]:
    """Read every `*.yaml` of a folder, by key. Raises `ConfigurationInvalid` naming the file and what is wrong."""
    prompts: dict[str, PromptTemplate] = {}
    for path in sorted(folder.glob("*.yaml")):
        try:
            prompt = PromptTemplate.model_validate(YAML(typ="safe", pure=True).load(path))
        except (YAMLError, ValidationError) as error:
            raise ConfigurationInvalid(f"{path}: {error}") from error
        if prompt.key in prompts:
            raise ConfigurationInvalid(f"{path}: the key {prompt.key!r} stands in another file too")
        prompts[prompt.key] = prompt
    return prompts
