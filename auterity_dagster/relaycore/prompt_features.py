"""What a routing predictor sees of a prompt: countable traits, and its words and word pairs as hashed buckets.

Hashed, so that a predictor holds nobody's words: a bucket's number cannot be turned back into text.
"""

import math
import re
import zlib
from collections.abc import Iterable, Mapping

BUCKETS = 1 << 15
HEAD_CHARACTERS, TAIL_CHARACTERS = 1_000, 3_000
"""Of a long prompt the middle is left out: the question stands at either end, and the time per decision stays bound."""

_TOKEN = re.compile(r"[^\W\d_]+|\d+(?:[.,]\d+)*|[^\w\s]")
_OPTION = re.compile(r"(?m)^\s*\(?[A-J][).:]\s")
_SENTENCE = re.compile(r"[.!?](?:\s|$)")
_CODE = re.compile(r"[{};]|\bdef\b|\breturn\b|=>|->|::|\(\)")
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
    """Return how often each bucket occurs, over single tokens and neighbouring pairs."""
    counts: dict[int, int] = {}
    before = ""
    for token in tokens:
        for gram in (token, f"{before} {token}"):
            bucket = zlib.crc32(gram.encode(errors="surrogatepass")) % BUCKETS
            counts[bucket] = counts.get(bucket, 0) + 1
        before = token
    return counts


def traits(text: str, tokens: list[str], *, characters: int) -> list[float]:
    """Return one number for each name in `TRAITS`; `characters` is the whole prompt's length."""
    words = [one for one in tokens if one[0].isalpha()]
    numbers = sum(map(is_number, tokens))
    count, sentences = max(len(words), 1), max(len(_SENTENCE.findall(text)), 1)
    lines = text.strip().split("\n")
    return [
        math.log1p(characters),
        math.log1p(len(words)),
        math.log1p(len(lines)),
        math.log1p(sentences),
        sum(map(len, words)) / count,
        sum(len(one) >= 8 for one in words) / count,
        len(set(words)) / count,
        math.log1p(numbers),
        float(max((int(one[1:]) for one in tokens if is_number(one)), default=0)),
        math.log1p(sum(one in ".," for one in tokens)),
        math.log1p(sum(one in _MATHEMATICS for one in tokens)),
        math.log1p(text.count("?")),
        sum(map(str.isupper, text)) / max(len(text), 1),
        sum(not one.isascii() for one in text) / max(len(text), 1),
        math.log1p(len(_CODE.findall(text))),
        math.log1p(len(_OPTION.findall(text))),
        math.log1p(_count(words, _NEGATION)),
        math.log1p(_count(words, _QUANTITY)),
        math.log1p(_count(words, _REASONING)),
        math.log1p(_count(words, _ASKING)),
        math.log1p(len(lines[-1])),
        math.log1p(text.count('"') + text.count("“")),
        math.log1p(len(words) / sentences),
        numbers / count,
    ]


def _count(words: list[str], wanted: frozenset[str]) -> int:
    return sum(one in wanted for one in words)


def is_number(token: str) -> bool:
    """True for the form that `tokens_of` gives a number; a `#` of the text stands alone."""
    return len(token) > 1 and token[0] == "#"
