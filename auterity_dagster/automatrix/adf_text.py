"""From the bytes a sender posts to the text between `<adf` and `</adf>`, with line numbers kept."""

import codecs
import html
import re
from dataclasses import dataclass

from auterity_dagster.automatrix.quarantine import Quarantined, QuarantineReason

BYTE_LIMIT = 256 * 1024

_OPENING = re.compile(r"<adf(?=[\s>/])", re.IGNORECASE)
_CLOSING = re.compile(r"</adf\s{0,64}>", re.IGNORECASE)
_ESCAPED_OPENING = re.compile(r"&lt;adf(?=\s|&gt;|/)", re.IGNORECASE)
_ESCAPED_CLOSING = re.compile(r"&lt;/adf\s{0,64}&gt;", re.IGNORECASE)
_DECLARES = re.compile(r"<!ENTITY|<!DOCTYPE[^<>\[]*\[", re.IGNORECASE)
_LABEL = re.compile(r"<\?xml[^<>?]{0,200}?encoding\s{0,9}=\s{0,9}[\"']([A-Za-z0-9._-]{1,40})[\"']", re.IGNORECASE)
_PROLOGUE = re.compile(r"<\?[^<>]*\?>|<!DOCTYPE[^<>]*>|<!--[^<>]*-->", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class AdfText:
    """The document alone; its first line stands on line `line_offset + 1` of what was sent."""

    text: str
    line_offset: int
    flags: frozenset[str]


def adf_text(raw: bytes) -> AdfText:
    """Decode, look for declarations, cut the document out, unescape it once if it came escaped.

    Raises `Quarantined` for more than 256 KB, for a DTD or entity, and where there is no document. A document that
    was cut off keeps what is there: the parser says where it ends.
    """
    if len(raw) > BYTE_LIMIT:
        raise Quarantined(QuarantineReason.TOO_LARGE)
    text, encoding = _decoded(raw)
    _refuse_declarations(text, line_offset=0)
    flags: set[str] = set()
    opening, closings = _OPENING.search(text), list(_CLOSING.finditer(text))
    is_escaped = opening is None
    if is_escaped:
        opening, closings = _ESCAPED_OPENING.search(text), list(_ESCAPED_CLOSING.finditer(text))
    if opening is None:
        raise Quarantined(QuarantineReason.NO_DOCUMENT)
    end = closings[-1].end() if closings and closings[-1].end() > opening.start() else len(text)
    before, document, after = text[: opening.start()], text[opening.start() : end], text[end:]
    line_offset = before.count("\n")
    if is_escaped:
        flags.add("unescaped")
        before, document = html.unescape(before), html.unescape(document)
        _refuse_declarations(document, line_offset=line_offset)
    if _PROLOGUE.sub("", before).strip() or after.strip():
        flags.add("text_around")
    if _contradicts(before, encoding, raw):
        flags.add("encoding_label_ignored")
    return AdfText(document, line_offset, frozenset(flags))


def _decoded(raw: bytes) -> tuple[str, str]:
    try:
        return raw.decode("utf-8-sig").replace("\r\n", "\n"), "utf-8"
    except UnicodeDecodeError:
        # Five bytes mean nothing in Windows-1252: they become the replacement character.
        return raw.decode("cp1252", errors="replace").replace("\r\n", "\n"), "cp1252"


def _refuse_declarations(text: str, *, line_offset: int) -> None:
    found = _DECLARES.search(text)
    if found is not None:
        line = line_offset + text.count("\n", 0, found.start()) + 1
        raise Quarantined(QuarantineReason.ENTITY_FORBIDDEN, line=line)


def _contradicts(before: str, encoding: str, raw: bytes) -> bool:
    """True if a label is there and these very bytes cannot be read as it says."""
    label = _LABEL.search(before)
    if label is None or raw.isascii():
        return False
    try:
        return codecs.lookup(label[1]).name != encoding
    except LookupError:
        return True
