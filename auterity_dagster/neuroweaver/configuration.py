"""Reading a YAML file into a strict model, with errors that name the file and the field."""

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from auterity_dagster.errors import ConfigurationInvalid

Model = TypeVar("Model", bound=BaseModel)


def read_configuration(path: Path, model: type[Model]) -> Model:
    """Read one YAML 1.2 file. Raises `ConfigurationInvalid`: missing file, broken YAML, or `field: what is wrong`."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationInvalid(f"{path}: {error.strerror}") from error
    try:
        content: object = YAML(typ="safe", pure=True).load(text)  # pyright: ignore[reportUnknownMemberType]
    except YAMLError as error:
        raise ConfigurationInvalid(f"{path}: {error}") from error
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise ConfigurationInvalid(f"{path}: {problems(error)}") from error


def problems(error: ValidationError) -> str:
    """Write what pydantic found as `field: reason`, one after the other."""
    return "; ".join(
        f"{'.'.join(str(part) for part in one['loc']) or 'file'}: {one['msg'].removeprefix('Value error, ')}"
        for one in error.errors()
    )
