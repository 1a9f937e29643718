"""Words by which a customer ends messages: the ones the law names, and others that a person looks at afterwards."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from auterity_dagster.automatrix.compliance.rows import Revocation, Row

_POLITE = re.compile(r"\b(?:please|pls|thanks|thank you|all|now|texts?|messages?|texting|messaging|sms|me)\b")
_OTHER_WORDS = re.compile(
    r"\b(?:stop|quit|don'?t|do not|no more|never|cease|end)\b.{0,30}"
    r"\b(?:text|messag|contact|writ|sms|email|mail|bother)\w*"
    r"|\b(?:remove|delete|take)\b.{0,20}\b(?:me|my (?:number|name|email))\b"
    r"|\b(?:unsubscribe|opt(?:ing)?[ -]?out|leave me alone|wrong (?:number|person)|lose my number|not interested)\b"
    r"|\bstop\b[.! ]*$",
    re.IGNORECASE,
)
RESUMING = frozenset({"start", "unstop"})


@dataclass(frozen=True, slots=True)
class OptOut:
    """`is_certain` for the law's own words; others suppress at once as well, and a person confirms or lifts them."""

    is_certain: bool
    ends: Literal["channel", "all"]
    rules: tuple[str, ...]


def read_opt_out(text: str, rows: Iterable[Row]) -> OptOut | None:
    """Return what a customer's message ends, None if it ends nothing. The widest of the rows in force counts."""
    revocations = [row for row in rows if isinstance(row, Revocation)]
    if not revocations:
        return None
    said = " ".join(re.sub(r"[^a-z' ]+", " ", text.casefold()).split())
    bare = " ".join(_POLITE.sub(" ", said).split())
    words = {word.replace("-", " ") for row in revocations for word in row.words}
    is_certain = said in words or bare in words or set(said.split()) == {"stop"}
    if not is_certain and not _OTHER_WORDS.search(text):
        return None
    ends: Literal["channel", "all"] = "all" if any(row.ends == "all" for row in revocations) else "channel"
    return OptOut(is_certain, ends, tuple(row.id for row in revocations))


def is_resuming(text: str) -> bool:
    """True if the customer asks to be written to again."""
    return text.strip().strip(".!").casefold() in RESUMING
