"""What the text of a message may not say, whoever wrote it: checked by program against the feed and against words."""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from auterity_dagster.automatrix.compliance.rows import CreditDecisions, PriceClaims, RecallWording, Row
from auterity_dagster.automatrix.recall import Match, wording_violations
from auterity_dagster.automatrix.reply_checks import amounts
from auterity_dagster.money import NanoUsd

# Approving, refusing, pre-screening or steering; a word about financing alone is none of these.
_CREDIT = re.compile(
    r"\b(?:pre[- ]?)?(?:approved|qualified)\b(?!\s+(?:service|technician|dealer))|\bapproval (?:is )?guaranteed\b"
    r"|\bguaranteed (?:credit |loan )?approval\b|\bno credit check\b|\b(?:pre[- ]?screen(?:ed|ing)?)\b"
    r"|\b(?:denied|declined|turned down|refused)\b[^.!?]{0,40}\b(?:credit|loan|financ\w+|lease|application)\b"
    r"|\b(?:credit|loan|financ\w+|lease|application)\b[^.!?]{0,40}\b(?:denied|declined|turned down|refused|approved)\b"
    r"|\byour credit (?:score|history|report)\b|\b(?:bad|good|poor|excellent) credit\b|\byou qualify\b",
    re.IGNORECASE,
)


def text_violations(
    text: str, rows: Sequence[Row], *, prices: Mapping[NanoUsd, datetime], now: datetime, recall_match: Match
) -> Iterator[tuple[str, str]]:
    """Yield each violation with the id of its row.

    `prices` are the total prices of available vehicles that the text names, each with the time of its newest feed.
    """
    for row in rows:
        match row:
            case PriceClaims():
                for written, nusd in amounts(text):
                    fed_at = prices.get(nusd)
                    if fed_at is None:
                        yield f"price_not_in_feed: {written}", row.id
                    elif now - fed_at > row.max_feed_age:
                        yield f"price_too_old: {written}", row.id
            case CreditDecisions():
                yield from ((f"credit_decision: {one[0]}", row.id) for one in _CREDIT.finditer(text))
            case RecallWording():
                yield from ((one, row.id) for one in wording_violations(text, match=recall_match))
            case _:
                continue
