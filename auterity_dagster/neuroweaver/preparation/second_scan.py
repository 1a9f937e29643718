"""The second look for personal data, by other means than the scrubber's, so that it finds what a layout hid from it."""

import re
import unicodedata
from collections.abc import Iterable

from auterity_dagster.neuroweaver.preparation.names import name_pattern
from auterity_dagster.neuroweaver.preparation.scrub import has_vin_check_digit, is_surrogate_vin, passes_luhn

_EMAIL = re.compile(r"\S@\S+\.\S")
_DIGITS = re.compile(r"\d(?:[ ().+-]*\d)+")
_VIN = re.compile(r"(?<![A-Z0-9])[A-HJ-NPR-Z0-9]{17}(?![A-Z0-9])")
_LABELLED = re.compile(r"\b(PLATE|LICEN[CS]E)\b(?:'?S|\s|:|#|IS\b|NUMBER\b|NO\b|\.)*([A-Z0-9-]{5,15})(?![A-Z0-9])")


def residual_kinds(text: str, *, key: bytes, names: Iterable[str] = ()) -> tuple[str, ...]:
    """Return which kinds of personal data a text still seems to hold; `key` is the one that made the surrogate VINs.

    It counts digits instead of matching layouts and reads letters without case and accents.
    """
    found: set[str] = set()
    if "@" in text and _EMAIL.search(text):
        found.add("email")
    for run in _DIGITS.findall(text):
        digits = re.sub(r"\D", "", run)
        if len(digits) < 9:
            continue
        groups = [len(group) for group in re.findall(r"\d+", run)]
        if 13 <= len(digits) <= 19 and passes_luhn(digits):
            found.add("card")
        elif groups == [3, 2, 4]:
            found.add("ssn")
        elif len(digits) == 10 or (len(digits) == 11 and digits.startswith("1")):
            found.add("phone")
    upper = text.upper()
    if any(has_vin_check_digit(vin) and not is_surrogate_vin(vin, key) for vin in _VIN.findall(upper)):
        found.add("vin")
    if "PLATE" in upper or "LICEN" in upper:
        for label, value in _LABELLED.findall(upper):
            if re.search(r"\d", value) and re.search(r"[A-Z]", value):
                found.add("plate" if label == "PLATE" else "licence")
    if (known := name_pattern(tuple(names))) is not None and (
        known.search(text) or known.search(_without_accents(text))
    ):
        found.add("name")
    return tuple(sorted(found))


def _without_accents(text: str) -> str:
    decomposed = unicodedata.normalize("NFD", text)
    return "".join(letter for letter in decomposed if not unicodedata.combining(letter))
