"""Whether a call is about a person, as far as it can be told without knowing names: what is so is never kept.

It errs towards yes: a long number that is nobody's costs an answer that is made again, and nothing else.
"""

import re
from collections.abc import Iterator, Mapping
from typing import cast

from auterity_dagster.relaycore.chat import ChatRequest

DATA_CLASS, RESTRICTED = "data_class", "restricted"
"""A caller's label, and the value of it that keeps a call out of everything that keeps, copies or tries."""

_NAMING_FIELDS = ("user", "safety_identifier")
_DATE = re.compile(r"(?<!\d)(?:19|20)\d\d-\d\d-\d\d(?!\d)")
_KINDS = {
    "email": re.compile(r"\S@\S+\.\S"),
    "number": re.compile(r"\d(?:[ ()./+-]{0,3}\d){6}"),
    "vin": re.compile(r"(?<![A-Za-z0-9])(?=[A-Za-z0-9]*\d)[A-HJ-NPR-Za-hj-npr-z0-9]{17}(?![A-Za-z0-9])"),
}
"""`number`: seven digits or more with the usual signs between them: telephones, cards, social security numbers."""


def is_restricted(request: ChatRequest) -> bool:
    """True if the caller labelled the call as restricted, or a guardrail found personal data in it."""
    return bool(request.pii) or request.metadata.get(DATA_CLASS) == RESTRICTED


def is_personal(request: ChatRequest, body: Mapping[str, object]) -> bool:
    """True if the call is restricted, names whom it is about or who asks, or its text shows personal data."""
    metadata = body.get("metadata")
    names_user = isinstance(metadata, dict) and "user_id" in cast(Mapping[str, object], metadata)
    return (
        is_restricted(request)
        or request.subject is not None
        or request.is_untrusted
        or names_user
        or any(body.get(name) is not None for name in _NAMING_FIELDS)
        or (request.pii is None and bool(kinds_in(body)))
    )


def kinds_in(body: Mapping[str, object]) -> frozenset[str]:
    """Return which kinds of personal data the texts of a body show: `email`, `number`, `vin`."""
    found: set[str] = set()
    for text in _texts(body):
        plain = _DATE.sub("", text)
        found.update(kind for kind, pattern in _KINDS.items() if kind not in found and pattern.search(plain))
    return frozenset(found)


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for one in cast(Mapping[str, object], value).values():
            yield from _texts(one)
    elif isinstance(value, list):
        for one in cast(list[object], value):
            yield from _texts(one)
