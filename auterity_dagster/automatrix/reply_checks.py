"""What a drafted message may not say: checked against the facts it was given, never by another model."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from auterity_dagster.facts import Facts
from auterity_dagster.money import NANO_USD_PER_USD, NanoUsd

LENGTH_LIMIT = 320

_AMOUNT = re.compile(
    r"(?:\$|USD)\s?(\d[\d,]*(?:\.\d{1,2})?)\s?([kK]\b)?|(\d[\d,]*(?:\.\d{1,2})?)\s?(?:dollars|USD|bucks)\b"
)
_LINK = re.compile(r"https?://|www\.|\b[\w-]+\.(?:com|net|org|io|co|ru|link|info)\b", re.IGNORECASE)
_CREDIT = re.compile(
    r"\b(?:pre-?)?(?:approv(?:ed|al)|qualif(?:y|ied))\b|\bguaranteed?\b|\bfinanc(?:e|ing)\b|\bAPR\b|\binterest rate\b|"
    r"\bper month\b|\bmonthly payment|\bno credit check\b|\bdiscount\b|\bfree of charge\b|\b\d+(?:\.\d+)?\s?%",
    re.IGNORECASE,
)
_LEFTOVER = re.compile(r"\{\{|\}\}|\$\{|<\|")


@dataclass(frozen=True, slots=True)
class Checks:
    """The verdict on one draft; each violation is `code` or `code: what was found`."""

    violations: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """True if nothing was found."""
        return not self.violations


def check_reply(
    reply: str, facts: Facts, *, length_limit: int = LENGTH_LIMIT, banned_words: Iterable[str] = ()
) -> Checks:
    """Judge a draft: length, amounts that are not a total price in the facts, promises of credit, links, leftovers.

    `banned_words` are words or phrases of the dealership's own that a draft may not have, whatever their case.
    """
    found: list[str] = []
    if not reply.strip():
        found.append("empty")
    if len(reply) > length_limit:
        found.append(f"too_long: {len(reply)} characters")
    allowed = {
        one.price_nusd for one in facts.vehicles if one.price_nusd is not None and one.availability == "available"
    }
    found += [f"price_not_in_feed: {written}" for written, nusd in amounts(reply) if nusd not in allowed]
    promises = [match[0] for match in _CREDIT.finditer(reply)]
    found += [f"credit_or_discount: {promise}" for promise in promises if not _is_stated(promise, facts)]
    found += [f"link: {match[0]}" for match in _LINK.finditer(reply)]
    found += [f"banned_word: {word}" for word in banned_words if _has_word(reply, word)]
    if _LEFTOVER.search(reply):
        found.append("leftover_markup")
    return Checks(tuple(dict.fromkeys(found)))


def amounts(text: str) -> tuple[tuple[str, NanoUsd], ...]:
    """Return every amount of dollars that a text names: as written, and in nano-dollars."""
    return tuple((match[0].strip(), _nusd(match)) for match in _AMOUNT.finditer(text))


def _is_stated(promise: str, facts: Facts) -> bool:
    """True for the one promise that facts may make: a recall's repair costs nothing. Others no fact makes true."""
    return promise.casefold() == "free of charge" and any("free of charge" in one.casefold() for one in facts.other)


def _has_word(text: str, word: str) -> bool:
    spaced = r"\s+".join(re.escape(part) for part in word.split())
    return bool(spaced) and re.search(rf"(?<!\w){spaced}(?!\w)", text, re.IGNORECASE) is not None


def _nusd(match: re.Match[str]) -> int:
    digits = (match[1] or match[3]).replace(",", "")
    whole, _, fraction = digits.partition(".")
    cents = int(whole or 0) * 100 + int(fraction.ljust(2, "0") or 0)
    return cents * NANO_USD_PER_USD // 100 * (1000 if match[2] else 1)
