"""Personal data out of training rows: found by patterns and check digits, replaced by surrogates.

A surrogate (`<PHONE_1>`) is the same for the same value within one conversation; the map from value to surrogate is
never written. A VIN keeps what says which vehicle it is and loses which one: positions 1-8 stay, the serial is new.
"""

import hmac
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from auterity_dagster.neuroweaver.example import Message
from auterity_dagster.neuroweaver.preparation.names import name_pattern

_VIN_VALUES: Mapping[str, int] = {
    **{str(digit): digit for digit in range(10)},
    **dict(zip("ABCDEFGHJKLMNPRSTUVWXYZ", (*range(1, 9), *range(1, 6), 7, 9, *range(2, 10)), strict=True)),
}
_VIN_WEIGHTS = (8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2)
_STREETS = "Street|St|Avenue|Ave|Road|Rd|Drive|Dr|Lane|Ln|Boulevard|Blvd|Court|Ct|Way|Place|Pl|Terrace|Highway|Hwy"

_EMAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
_VIN = re.compile(r"\b[A-HJ-NPR-Za-hj-npr-z0-9]{17}\b")
_CARD = re.compile(r"(?<![\d-])\d(?:[ -]?\d){12,18}(?![\d-])")
_SSN = re.compile(r"(?<![\d-])\d{3}[- ]\d{2}[- ]\d{4}(?![\d-])")
_PHONE = re.compile(r"(?<![\w$.,-])(?:\+?1[ .-]?)?(?:\(\d{3}\) ?|\d{3}[ .-]?)\d{3}[ .-]?\d{4}(?![\w-])")
_PLATE = re.compile(
    r"(?i:\b(?:license |licence |number )?plate(?:['’]?s)?(?: number| no\.?| is|:|#)*) ?"
    r"\b([A-Za-z0-9][A-Za-z0-9-]{3,7})\b"
)
_LICENCE = re.compile(
    r"(?i:\b(?:driver['’]?s? |driving )?licen[cs]e(?: number| no\.?| is|:|#)*|\bDL ?#?:?) ?"
    r"([A-Za-z]{0,3}\d[A-Za-z0-9-]{4,14})\b"
)
# `2026 Ford Escape ST-Line` is no address: a suffix in capitals counts only where the whole street is in capitals.
_ADDRESS = re.compile(
    r"\b\d{1,5} (?:[NSEW]\.? )?"
    rf"(?:(?:[A-Z][\w'’]*\.? ){{1,3}}(?:{_STREETS}|{_STREETS.lower()})|(?:[A-Z'’]+\.? ){{1,3}}(?:{_STREETS.upper()}))"
    r"\b(?![-\w])\.?"
)


class Scrubbed(NamedTuple):
    """Messages without personal data, and how many values of each kind were replaced."""

    messages: tuple[Message, ...]
    counts: Mapping[str, int]


def scrub(messages: Iterable[Message], *, names: Iterable[str], key: bytes) -> Scrubbed:
    """Replace personal data in one conversation; `names` are those of its customer record.

    `key` makes the new serials of VINs: equal VINs stay equal, and nobody without the key can find the old one.
    """
    surrogates: dict[tuple[str, str], str] = {}
    counts: Counter[str] = Counter()

    def surrogate(kind: str, value: str) -> str:
        counts[kind] += 1
        same_kind = sum(1 for known, _ in surrogates if known == kind)
        return surrogates.setdefault((kind, _folded(value)), f"<{kind.upper()}_{same_kind + 1}>")

    def vin(match: re.Match[str]) -> str:
        if not has_vin_check_digit(match[0].upper()):
            return match[0]
        counts["vin"] += 1
        return _other_serial(match[0].upper(), key)

    steps: list[tuple[re.Pattern[str], Callable[[re.Match[str]], str]]] = [
        (_EMAIL, lambda match: surrogate("email", match[0])),
        (_VIN, vin),
        (_CARD, lambda match: surrogate("card", match[0]) if passes_luhn(match[0]) else match[0]),
        (_SSN, lambda match: surrogate("ssn", match[0])),
        (_PHONE, lambda match: surrogate("phone", match[0])),
        (_LICENCE, lambda match: match[0].replace(match[1], surrogate("licence", match[1]))),
        (
            _PLATE,
            lambda match: (
                match[0].replace(match[1], surrogate("plate", match[1])) if _has_digit(match[1]) else match[0]
            ),
        ),
        (_ADDRESS, lambda match: surrogate("address", match[0])),
    ]
    if (known := name_pattern(tuple(names))) is not None:
        steps.append((known, lambda match: surrogate("name", match[0])))
    scrubbed: list[Message] = []
    for message in messages:
        content = message.content
        for pattern, replace in steps:
            content = pattern.sub(replace, content)
        scrubbed.append(message if content == message.content else Message(role=message.role, content=content))
    return Scrubbed(tuple(scrubbed), dict(counts))


def passes_luhn(number: str) -> bool:
    """Whether the digits of a card number carry a right check digit."""
    digits = [int(character) for character in reversed(number) if character.isdigit()]
    total = sum(digit if at % 2 == 0 else sum(divmod(2 * digit, 10)) for at, digit in enumerate(digits))
    return len(set(digits)) > 1 and total % 10 == 0


def is_surrogate_vin(vin: str, key: bytes) -> bool:
    """Whether `scrub` made this VIN with this key; of a thousand true VINs one looks so by chance."""
    return vin[11:17].isdigit() and _mark(vin, key) == vin[14:17]


def has_vin_check_digit(vin: str) -> bool:
    """Whether position 9 of 17 upper-case characters is the check digit of the others."""
    return vin[8] == _check_digit(vin) and _has_digit(vin)


def _check_digit(vin: str) -> str:
    rest = sum(_VIN_VALUES[character] * weight for character, weight in zip(vin, _VIN_WEIGHTS, strict=True)) % 11
    return "X" if rest == 10 else str(rest)


def _other_serial(vin: str, key: bytes) -> str:
    number = int.from_bytes(hmac.digest(key, vin.encode(), "sha256")[:4]) % 1000
    changed = f"{vin[:8]}0{vin[9:11]}{number:03d}000"
    changed = f"{changed[:14]}{_mark(changed, key)}"
    return f"{changed[:8]}{_check_digit(changed)}{changed[9:]}"


def _mark(vin: str, key: bytes) -> str:
    """Return the last three digits of a new serial: they tell the second scanner that it is no true one."""
    told = f"surrogate:{vin[:8]}{vin[9:14]}".encode()
    return f"{int.from_bytes(hmac.digest(key, told, 'sha256')[:4]) % 1000:03d}"


def _folded(value: str) -> str:
    return re.sub(r"[\s().-]", "", value).lower()


def _has_digit(value: str) -> bool:
    return any(character.isdigit() for character in value)
