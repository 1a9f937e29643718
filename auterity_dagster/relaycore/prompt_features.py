"""What a routing predictor sees of a prompt: countable traits, and its words and word pairs as hashed buckets.

Hashed, so that a predictor holds nobody's words: a bucket's number cannot be turned back into text.
"""

import math
import re
import string
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping

BUCKETS = 1 << 15
HEAD_CHARACTERS, TAIL_CHARACTERS = 1_000, 3_000
"""Of a long prompt the middle is left out: the question stands at either end, and the time per decision stays bound."""

_TOKEN = re.compile(r"[^\W\d_]+|\d+(?:[.,]\d+)*|[^\w\s]")
_OPTION = re.compile(r"(?m)^\s*\(?[A-J][).:]\s")
_SENTENCE = re.compile(r"[.!?](?:\s|$)")
_SIGNS_OF_CODE = ("{", "}", ";", "=>", "->", "::", "()")
_WORDS_OF_CODE = re.compile(r"\b(?:def|return)\b")
_CAPITALS = string.ascii_uppercase.encode()
_MATHEMATICS = frozenset("+-*/=^<>%$\\√∑∫≤≥")
_NEGATION = frozenset(
    {"not", "no", "never", "except", "false", "incorrect", "without", "neither", "nor", "unlikely", "least"}
)
_QUANTITY = frozenset(
    {
        *("each", "every", "per", "total", "twice", "half", "double", "triple", "third", "quarter", "percent", "times"),
        *("more", "less", "fewer", "remaining", "left", "altogether", "average", "rate", "ratio", "many", "much"),
    }
)
_REASONING = frozenset({"why", "explain", "prove", "derive", "show", "compare", "justify", "if", "suppose", "because"})
_ASKING = frozenset({"what", "which", "who", "when", "where", "how", "whose"})

TRAITS = (
    *("characters", "words", "lines", "sentences", "word_length", "long_words", "variety", "numbers", "largest_number"),
    *("decimals", "mathematics", "questions", "capitals", "foreign", "code", "options", "negations", "quantities"),
    *("reasoning", "asking", "last_line", "quotes", "words_a_sentence", "numbers_a_word"),
)
"""Names of what `traits` returns, in its order."""


def prompt_text(contents: Iterable[str]) -> str:
    """Return the prompt of a conversation: what its messages say, in order."""
    return "\n\n".join(contents)


def shortened(prompt: str) -> str:
    """Return the part of a prompt that is looked at."""
    if len(prompt) <= HEAD_CHARACTERS + TAIL_CHARACTERS:
        return prompt
    return f"{prompt[:HEAD_CHARACTERS]}\n{prompt[-TAIL_CHARACTERS:]}"


def tokens_of(text: str) -> list[str]:
    """Return words in lower case, punctuation marks, and numbers as `#` with how many digits they have."""
    return [f"#{len(one)}" if one[0].isdigit() else one for one in _TOKEN.findall(text.lower())]


def buckets_of(tokens: list[str]) -> Mapping[int, int]:
    """Return how often each bucket occurs, over single tokens and neighbouring pairs.

    A pair's checksum goes on from its first token's: nothing is put together only to be hashed.
    """
    counts: dict[int, int] = {}
    known: dict[str, tuple[int, bytes]] = {}
    before = 0
    for token in tokens:
        found = known.get(token)
        if found is None:
            written = token.encode(errors="surrogatepass")
            found = known[token] = zlib.crc32(written), b" " + written
        own, spaced = found
        bucket = own % BUCKETS
        counts[bucket] = counts.get(bucket, 0) + 1
        bucket = zlib.crc32(spaced, before) % BUCKETS
        counts[bucket] = counts.get(bucket, 0) + 1
        before = own
    return counts


def traits(text: str, tokens: list[str], *, characters: int) -> list[float]:
    """Return one number for each name in `TRAITS`; `characters` is the whole prompt's length."""
    counts = Counter(tokens)
    words = [(one, many) for one, many in counts.items() if one[0].isalpha()]
    numerals = [(one, many) for one, many in counts.items() if is_number(one)]
    said, numbers = sum(many for _, many in words), sum(many for _, many in numerals)
    count, sentences = max(said, 1), max(len(_SENTENCE.findall(text)), 1)
    lines = text.strip().split("\n")
    return [
        math.log1p(characters),
        math.log1p(said),
        math.log1p(len(lines)),
        math.log1p(sentences),
        sum(len(one) * many for one, many in words) / count,
        sum(many for one, many in words if len(one) >= 8) / count,
        len(words) / count,
        math.log1p(numbers),
        float(max((int(one[1:]) for one, _ in numerals), default=0)),
        math.log1p(counts["."] + counts[","]),
        math.log1p(_count(counts, _MATHEMATICS)),
        math.log1p(text.count("?")),
        _capitals(text) / max(len(text), 1),
        (len(text) - len(_plain(text))) / max(len(text), 1),
        math.log1p(_code(text)),
        math.log1p(len(_OPTION.findall(text))),
        math.log1p(_count(counts, _NEGATION)),
        math.log1p(_count(counts, _QUANTITY)),
        math.log1p(_count(counts, _REASONING)),
        math.log1p(_count(counts, _ASKING)),
        math.log1p(len(lines[-1])),
        math.log1p(text.count('"') + text.count("“")),
        math.log1p(said / sentences),
        numbers / count,
    ]


def _count(counts: Mapping[str, int], wanted: frozenset[str]) -> int:
    return sum(counts.get(one, 0) for one in wanted)


def _code(text: str) -> int:
    # Looking for a word first costs a hundredth of the pattern, which hardly a prompt needs.
    words = _WORDS_OF_CODE.findall(text) if "def" in text or "return" in text else ()
    return sum(map(text.count, _SIGNS_OF_CODE)) + len(words)


def _plain(text: str) -> bytes:
    return text.encode("ascii", errors="ignore")


def _capitals(text: str) -> int:
    plain = _plain(text)
    found = len(plain) - len(plain.translate(None, delete=_CAPITALS))
    if len(plain) < len(text):
        found += sum(one.isupper() for one in text if not one.isascii())
    return found


def is_number(token: str) -> bool:
    """True for the form that `tokens_of` gives a number; a `#` of the text stands alone."""
    return len(token) > 1 and token[0] == "#"
