"""From ADF text to elements: a strict parse without DTD or entities, and one repair of what senders get wrong."""

import html
import re
from typing import Any, cast
from xml.etree.ElementTree import Element, ParseError, TreeBuilder

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser

from auterity_dagster.automatrix.adf_text import AdfText
from auterity_dagster.automatrix.quarantine import Quarantined, QuarantineReason

DEPTH_LIMIT = 24

_SPECIAL = re.compile(
    r"&(?P<entity>[A-Za-z][A-Za-z0-9]{1,31};|#[0-9]{1,7};|#[xX][0-9A-Fa-f]{1,6};)?"
    # A tag begins with a name and ends before the next `<`; every other `<` was meant as a sign.
    r"|<(?P<tag>/?[A-Za-z_][\w.:-]*(?:\s[^<>]*)?/?>|!--|\?)?"
)
_OF_XML = frozenset({"amp;", "lt;", "gt;", "quot;", "apos;"})
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


def adf_elements(document: AdfText) -> tuple[Element, bool]:
    """Return the `adf` element, names in lower case and without namespace, and whether repair was needed.

    Raises `Quarantined` for what stays malformed (with the line of the first error), declares a DTD, or nests deeper
    than any ADF document does.
    """
    try:
        return _parsed(document.text), False
    except ParseError as error:
        line = document.line_offset + error.position[0]
    except DefusedXmlException as error:
        raise Quarantined(QuarantineReason.ENTITY_FORBIDDEN) from error
    try:
        return _parsed(_repaired(document.text)), True
    except ParseError as error:
        raise Quarantined(QuarantineReason.NOT_WELL_FORMED, line=line, note=f"First error on line {line}.") from error
    except DefusedXmlException as error:
        raise Quarantined(QuarantineReason.ENTITY_FORBIDDEN) from error


class _LowerCaseBuilder(TreeBuilder):
    def __init__(self) -> None:
        super().__init__()
        self._depth = 0

    def start(self, tag: str, attrs: dict[str, str], /) -> Element:
        self._depth += 1
        if self._depth > DEPTH_LIMIT:
            raise Quarantined(QuarantineReason.TOO_DEEP)
        return super().start(_plain(tag), {_plain(name): value for name, value in attrs.items()})

    def end(self, tag: str, /) -> Element:
        self._depth -= 1
        return super().end(_plain(tag))


def _plain(name: str) -> str:
    return name.rpartition("}")[2].lower()


def _parsed(text: str) -> Element:
    parser = cast(
        Any,
        DefusedXMLParser(target=_LowerCaseBuilder(), forbid_dtd=True, forbid_entities=True, forbid_external=True),
    )
    parser.feed(text)
    return cast(Element, parser.close())


def _repaired(text: str) -> str:
    """Escape bare `&` and `<`, write HTML's entities as characters, drop what XML allows nowhere; CDATA stays."""
    parts: list[str] = []
    position = 0
    while (start := text.find("<![CDATA[", position)) >= 0 and (end := text.find("]]>", start)) >= 0:
        parts += [_SPECIAL.sub(_written, text[position:start]), text[start : end + 3]]
        position = end + 3
    parts.append(_SPECIAL.sub(_written, text[position:]))
    return _FORBIDDEN.sub("", "".join(parts))


def _written(found: re.Match[str]) -> str:
    whole = found[0]
    if whole == "<":
        return "&lt;"
    if whole == "&":
        return "&amp;"
    entity = found["entity"]
    if entity is None or entity in _OF_XML or entity.startswith("#"):
        return whole
    character = html.unescape(whole)
    return character if character != whole else f"&amp;{entity}"
