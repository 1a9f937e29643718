"""The second look for personal data: it shares nothing with the scrubber, so that one mistake cannot blind both.

It counts digits instead of matching layouts, reads letters without case and accents, looks for names word by word, and
computes check digits in its own way. What it knows of a surrogate VIN is how one is marked, not the code that marks it.
"""

import hmac
import re
import unicodedata
from collections.abc import Iterable, Set

_EMAIL = re.compile(r"\S@\S+\.\S")
_DIGITS = re.compile(r"\d(?:[ ().+-]*\d)+")
_VIN = re.compile(r"(?<![A-Z0-9])[A-HJ-NPR-Z0-9]{17}(?![A-Z0-9])")
_LABELLED = re.compile(r"\b(PLATE|LICEN[CS]E)\b(?:'?S|\s|:|#|IS\b|NUMBER\b|NO\b|\.)*([A-Z0-9-]{5,15})(?![A-Z0-9])")
_SURROGATE = re.compile(r"<[A-Z]+_\d+>")
_POSSESSIVE = re.compile(r"['’]s?(?!\w)", re.IGNORECASE)
_WORD = re.compile(r"\w+")

# A character's value (49 CFR 565.15) is its place in this text, modulo ten.
_VIN_PLACES = "0123456789.ABCDEFGH..JKLMN.P.R..STUVWXYZ"
_VIN_REMAINDERS = "0123456789X"
_VIN_WEIGHTS = "8765432X098765432"
_DOUBLED = "0246813579"

_UNDECOMPOSED = str.maketrans({"ł": "l", "Ł": "L", "ø": "o", "Ø": "O", "đ": "d", "Đ": "D", "ß": "ss"})
_ADDRESSED_AS = frozenset(["mr", "mrs", "ms", "miss", "dr", "prof", "jr", "sr", "ii", "iii", "iv"])
# In lower case these are words and nobody's name; the list is wider than it need be, for whole names count anyway.
_ORDINARY = frozenset(
    re.findall(
        r"\w+",
        "will mark may june april august grant rose art bill drew pat rich sue jack frank hope faith joy dean guy gene "
        "ray rob chase chip cash price miles trip carol daisy olive violet ivy penny sterling young long short white "
        "black brown green gray grey king love best good day park parks field wood woods stone bush hill rivers brooks "
        "lane street case cole wells banks bond sharp small little fast swift key car van an do so no my to he she we "
        "you us go in on at by is it as or if be la de le lo yes new used stock summer autumn winter sunny the and for "
        "with from but not all any can her his our was one two who how its did get got let say see way "
        "bell bay cook fisher mason page porter potter reed ring sage sandy skip stark ward west north south east "
        "major noble power pope rice root rush sales savage sargent self shield silver snow song speed story strong",
    )
)
_MAKERS = frozenset(
    (one,)
    for one in re.findall(
        r"\w+", "ford lincoln dodge chrysler mercedes benz porsche tesla royce rover honda toyota nissan buick"
    )
)


def residual_kinds(
    text: str, *, key: bytes, names: Iterable[str] = (), source_vins: Set[str] = frozenset()
) -> tuple[str, ...]:
    """Return which kinds of personal data a text still seems to hold; `key` is the one that made the surrogate VINs.

    `source_vins` are those of the rows before they were scrubbed: none of them may be left, whatever it looks like.
    """
    found: set[str] = set()
    if "@" in text and _EMAIL.search(text):
        found.add("email")
    found |= {kind for run in _DIGITS.findall(text) if (kind := _kind_of_number(run)) is not None}
    upper = text.upper()
    if any(vin in source_vins or not _is_marked(vin, key) for vin in vins(text)):
        found.add("vin")
    if "PLATE" in upper or "LICEN" in upper:
        for label, value in _LABELLED.findall(upper):
            if re.search(r"\d", value) and re.search(r"[A-Z]", value):
                found.add("plate" if label == "PLATE" else "licence")
    if _names_somebody(text, names):
        found.add("name")
    return tuple(sorted(found))


def vins(text: str) -> tuple[str, ...]:
    """Return what reads as a vehicle identification number with a right check digit, in upper case."""
    return tuple(one for one in _VIN.findall(text.upper()) if any(map(str.isdigit, one)) and _is_checked(one))


def _kind_of_number(run: str) -> str | None:
    groups = re.findall(r"\d+", run)
    digits = "".join(groups)
    if 13 <= len(digits) <= 19 and _is_card(digits):
        return "card"
    if [len(group) for group in groups] == [3, 2, 4]:
        return "ssn"
    if len(digits) == 10 or (len(digits) == 11 and digits.startswith("1")):
        return "phone"
    return None


def _is_card(digits: str) -> bool:
    """Luhn, from the left: every second digit before the last is doubled and its digits added."""
    at_odd = len(digits) % 2
    total = sum(int(_DOUBLED[int(one)] if at % 2 == at_odd else one) for at, one in enumerate(digits))
    return total % 10 == 0 and digits.count(digits[0]) < len(digits)


def _is_checked(vin: str) -> bool:
    weighed = (
        _VIN_PLACES.index(one) % 10 * _VIN_REMAINDERS.index(weight)
        for one, weight in zip(vin, _VIN_WEIGHTS, strict=True)
    )
    return _VIN_REMAINDERS[sum(weighed) % 11] == vin[8]


def _is_marked(vin: str, key: bytes) -> bool:
    """Whether the serial is six digits of which the last three are the keyed mark of what stands before them."""
    serial, told = vin[-6:], f"surrogate:{vin[:8]}{vin[9:14]}"
    mark = int(hmac.new(key, told.encode(), "sha256").hexdigest()[:8], 16) % 1000
    return serial.isdecimal() and int(serial) % 1000 == mark


def _names_somebody(text: str, names: Iterable[str]) -> bool:
    """Whether a name of the customer's record stands there: a part of it, or all of it where its parts are words."""
    sought: set[tuple[str, ...]] = set()  # a part of a name as its words: `Ana-Maria` has two
    for name in names:
        parts = [_words(part) for part in name.split() if _plain(part).strip(".").lower() not in _ADDRESSED_AS]
        lower = [tuple(map(str.lower, part)) for part in parts if len("".join(part)) > 1]
        sought |= {part for part in lower if part not in _MAKERS}
        sought.add(tuple(word for part in lower for word in part))
    if not sought - {()}:
        return False
    read = _words(_SURROGATE.sub(" . ", text))
    folded = [word.lower() for word in read]
    by_first = {part[0]: [one for one in sought if one and one[0] == part[0]] for part in sought if part}
    return any(
        tuple(folded[at : at + len(part)]) == part and _is_name_here(part, read[at : at + len(part)])
        for at, word in enumerate(folded)
        for part in by_first.get(word, ())
    )


def _is_name_here(part: tuple[str, ...], written: list[str]) -> bool:
    if part in _MAKERS:
        return False
    return any(word not in _ORDINARY for word in part) or all(word[0].isupper() for word in written)


def _words(text: str) -> list[str]:
    """Return the words of a text without accents: `O'Brien` is one, `Ana-Maria` two, `Teague's` is Teague."""
    return _WORD.findall(_POSSESSIVE.sub("", _plain(text)).replace("'", "").replace("’", "").replace("-", " "))


def _plain(text: str) -> str:
    decomposed = unicodedata.normalize("NFD", text.translate(_UNDECOMPOSED))
    return "".join(letter for letter in decomposed if not unicodedata.combining(letter))
