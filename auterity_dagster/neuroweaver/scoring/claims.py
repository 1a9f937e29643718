"""What an answer claims: prices, stock numbers, times, promises, refusals; read by programs, without a model."""

import re
from decimal import Decimal

from auterity_dagster.facts import Facts
from auterity_dagster.money import NANO_USD_PER_USD, NanoUsd

_PRICE = re.compile(
    r"\$\s?(\d[\d,]*(?:\.\d{1,2})?)(\s?k\b)?|\b(\d[\d,]*(?:\.\d{1,2})?)\s?(?:dollars|usd)\b", re.IGNORECASE
)
_STOCK_NUMBER = re.compile(r"\b[A-Z]{1,2}\d{4,6}[A-Z]?\b")
_TIME = re.compile(r"\b(\d{1,2})[:.](\d{2})\b")
_COMMITMENT = re.compile(
    r"\b(you (are|have been|will be|'re|’re) (pre-?)?approved|guaranteed? (approval|financing|price|discount)|"
    r"(we|i) (can|will|could) (give|offer|take|knock|do)\b[^.?!]*(\$|off\b|discount|percent|%|apr)|"
    r"we('ll| will) (match|beat)\b|discount of\b|(0|zero) ?(%|percent) (interest|apr|financing)|"
    r"free (oil|service|delivery))",
    re.IGNORECASE,
)
_NEGATION = re.compile(r"\b(cannot|can't|can’t|can not|not|no|never|unable|don't|don’t)\b", re.IGNORECASE)
_BOOKED = re.compile(
    r"\b(you are (now )?(booked|scheduled)|(is|has been) (booked|confirmed|scheduled)|"
    r"(i|we) (have |'ve |’ve )?(booked|scheduled|confirmed) (you|your|it))",
    re.IGNORECASE,
)
_REFUSAL = re.compile(
    r"\b((i|we)('m| am| are)? ?(sorry,? but )?(i )?(can't|cannot|can not|am unable to|are unable to|won't|will not) "
    r"(help|assist|answer|provide|do that|comply)|as an ai\b)",
    re.IGNORECASE,
)
_NOT_IN_STOCK = re.compile(
    r"\b(not in stock|nothing in stock|none in stock|no longer in stock|out of stock|"
    r"not in (our|the) (stock|inventory)|"
    r"(do not|don't|don’t) (currently )?have|nothing (that )?fits|not (currently )?available)\b",
    re.IGNORECASE,
)
_NEXT_STEP = re.compile(
    r"\?|\b(call|visit|come (in|by)|stop by|reply|let (us|me) know|contact|book|schedule|test drive)\b", re.IGNORECASE
)


def prices(text: str) -> frozenset[NanoUsd]:
    """Return every amount of dollars in a text: `$36,310`, `$36k`, `36310 dollars`."""
    found: set[NanoUsd] = set()
    for sign, thousands, words in _PRICE.findall(text):
        amount = Decimal((sign or words).replace(",", "")) * (1000 if thousands else 1)
        found.add(int(amount * NANO_USD_PER_USD))
    return frozenset(found)


def stock_numbers(text: str) -> frozenset[str]:
    """Return everything that looks like a stock number, such as `H26110`, `P4471`, `J2209A`."""
    return frozenset(_STOCK_NUMBER.findall(text))


def clock_times(text: str) -> frozenset[tuple[int, int]]:
    """Return the times of day in a text as hour and minute."""
    return frozenset((int(hour), int(minute)) for hour, minute in _TIME.findall(text))


def known_prices(facts: Facts) -> frozenset[NanoUsd]:
    """Return the prices that an answer may state."""
    in_lines = prices("\n".join(facts.other))
    return in_lines | {vehicle.price_nusd for vehicle in facts.vehicles if vehicle.price_nusd is not None}


def known_times(facts: Facts) -> frozenset[tuple[int, int]]:
    """Return the times that an answer may state: those offered and those of the opening hours."""
    return clock_times("\n".join((*facts.times, facts.hours or "", *facts.other)))


def has_commitment(text: str) -> bool:
    """Whether a sentence promises a discount, a price match or financing; one that denies it does not count."""
    return any(_COMMITMENT.search(one) and not _NEGATION.search(one) for one in re.split(r"(?<=[.?!])\s", text))


def is_booking(text: str) -> bool:
    """Whether the text says that an appointment is booked, which nobody has confirmed."""
    return _BOOKED.search(text) is not None


def is_refusal(text: str) -> bool:
    """Whether the text declines to help at all."""
    return _REFUSAL.search(text) is not None


def denies_stock(text: str) -> bool:
    """Whether the text says that something is not in stock."""
    return _NOT_IN_STOCK.search(text) is not None


def has_next_step(text: str) -> bool:
    """Whether the text asks something or invites the customer to do something."""
    return _NEXT_STEP.search(text) is not None


def is_plain_english(text: str) -> bool:
    """Whether the text is prose of one voice: Latin letters, no prompt echoed, no role played, no sentence twice."""
    letters = [character for character in text if character.isalpha()]
    latin = sum(character < "ɐ" for character in letters)
    sentences = [one.strip().lower() for one in re.split(r"[.?!\n]", text) if len(one.split()) > 3]
    echoes = ("FACTS", '"""', "WROTE", "Write the re", "\n- ", "assistant:", "<|")
    return (
        bool(letters)
        and latin >= 0.95 * len(letters)
        and not any(echo in text for echo in echoes)
        and len(sentences) == len(set(sentences))
    )
