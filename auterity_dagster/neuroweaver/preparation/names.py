"""Names of a customer's record, as they are written in a conversation: parts alone, in capitals, without accents."""

import re
import unicodedata
from functools import lru_cache

_TITLES = frozenset({"mr", "mrs", "ms", "miss", "dr", "prof", "jr", "sr", "ii", "iii", "iv"})
# A part that is an ordinary word too is a name only where it is capitalised: "Will will come."
_WORDS = frozenset(
    re.findall(
        r"\w+",
        "will mark may june april august grant rose art bill drew pat rich sue jack frank hope faith joy dean guy gene "
        "ray rob chase chip cash price miles trip carol daisy olive violet ivy penny sterling young long short white "
        "black brown green gray grey king love best good day park parks field wood woods stone bush hill rivers brooks "
        "lane street case cole wells banks bond sharp small little fast swift key car van an do so no my to he she we "
        "you us go in on at by is it as or if be la de le lo yes new used stock summer autumn winter sunny",
    )
)
# A make is a name only beside the rest of it: "Lincoln Ford" is a customer, "the Ford" is none.
_MAKES = frozenset(
    (
        "ford",
        "lincoln",
        "dodge",
        "chrysler",
        "mercedes",
        "benz",
        "porsche",
        "tesla",
        "royce",
        "rover",
        "honda",
        "toyota",
    )
)
# Letters with a stroke do not come apart into letter and accent; people leave the stroke out all the same.
_UNDECOMPOSED = str.maketrans("łŁøØđĐ", "lLoOdD")


@lru_cache(maxsize=4096)
def name_pattern(names: tuple[str, ...]) -> re.Pattern[str] | None:
    """Return what finds these names in a text, or None if there is nothing to look for."""
    parts = [part for name in names for part in name.split() if _bare(part) not in _TITLES and len(_bare(part)) > 1]
    whole = [name for name in names if len(name.split()) > 1 and any(_bare(part) in _MAKES for part in name.split())]
    alternatives = [r"\s+".join(_spelled(part) for part in name.split()) for name in whole]
    alternatives += [_spelled(part) for part in sorted(set(parts), key=len, reverse=True) if _bare(part) not in _MAKES]
    if not alternatives:
        return None
    return re.compile(rf"(?<![\w@])(?:{'|'.join(alternatives)})(?!\w)", re.IGNORECASE)


def _spelled(part: str) -> str:
    """Return a pattern for one part: with or without its accents, with either apostrophe, hyphenated or spaced."""
    letters: list[str] = []
    for letter in unicodedata.normalize("NFC", part):
        bare = _bare(letter)
        if letter in "'’":
            letters.append("['’]?")
        elif letter == "-":
            letters.append(r"[-\s]?")
        elif bare != letter.lower() and len(bare) == 1:
            letters.append(f"[{letter}{bare}]")
        else:
            letters.append(re.escape(letter))
    spelled = "".join(letters)
    if _bare(part) in _WORDS:
        return f"(?-i:{re.escape(part[:1].upper())}(?i:{re.escape(part[1:])}))"
    return spelled


def _bare(text: str) -> str:
    decomposed = unicodedata.normalize("NFD", text.strip(".,").translate(_UNDECOMPOSED))
    return "".join(letter for letter in decomposed if not unicodedata.combining(letter)).lower()
