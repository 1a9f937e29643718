"""A definition's text: YAML 1.2 or JSON, read into plain data without running or expanding anything."""

import json
from collections.abc import Mapping
from io import StringIO
from typing import Any, cast

from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer, ComposerError
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import AliasEvent
from ruamel.yaml.representer import SafeRepresenter

from auterity_dagster.errors import Invalid

DEFINITION_LIMIT_BYTES = 256 * 1024


class _WithoutAliases(Composer):
    """A few lines of aliases to aliases stand for gigabytes."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        parser = cast("Any", self.parser)  # pyright: ignore[reportUnknownMemberType]
        if parser.check_event(AliasEvent):
            raise ComposerError(None, None, "aliases are not allowed: write it out", parser.peek_event().start_mark)
        return cast("Any", super().compose_node(parent, index))  # pyright: ignore[reportUnknownMemberType]


class _Exact(SafeRepresenter):
    """Quotes texts whose characters YAML would fold or take for line breaks."""

    def represent_str(self, data: str) -> Any:
        style = None if data.isprintable() else '"'
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=style)  # pyright: ignore[reportUnknownMemberType]


_Exact.add_representer(str, _Exact.represent_str)  # pyright: ignore[reportUnknownMemberType]


def read_document(text: str) -> dict[str, Any]:
    """Read YAML 1.2 or JSON into plain data. Raises `Invalid` with the line."""
    if len(text.encode()) > DEFINITION_LIMIT_BYTES:
        raise Invalid(f"a definition may have {DEFINITION_LIMIT_BYTES} bytes", code="definition_too_large")
    try:
        document = json.loads(text) if text.lstrip().startswith("{") else _yaml(text)
    except json.JSONDecodeError:
        document = _yaml(text)
    except RecursionError as error:
        raise Invalid("a definition does not nest that deep", code="definition_invalid") from error
    if not isinstance(document, dict):
        raise Invalid("a definition is a mapping with the key `api_version`", code="definition_invalid")
    return cast("dict[str, Any]", document)


def write_yaml(document: Mapping[str, Any]) -> str:
    """Return a document as YAML that reads back as the same data."""
    yaml = YAML(typ="safe", pure=True)
    yaml.Representer = _Exact
    yaml.default_flow_style = False
    yaml.width = 120
    text = StringIO()
    yaml.dump(dict(document), text)  # pyright: ignore[reportUnknownMemberType]
    return text.getvalue()


def _yaml(text: str) -> object:
    yaml = YAML(typ="safe", pure=True)
    yaml.Composer = _WithoutAliases
    try:
        return yaml.load(text)  # pyright: ignore[reportUnknownMemberType]
    except YAMLError as error:
        raise Invalid(f"not readable as YAML: {error}", code="definition_invalid") from error
    except (RecursionError, ValueError) as error:
        raise Invalid(f"not readable as YAML: {type(error).__name__}", code="definition_invalid") from error
