"""What a report on a dataset compares: lengths, topic, language, personal data, what the feed offered; never a text."""

import re
from collections.abc import Iterable

from auterity_dagster.facts import Facts, parse_facts
from auterity_dagster.neuroweaver.drift import Features
from auterity_dagster.neuroweaver.example import TrainingExample

_SURROGATE = re.compile(r"<[A-Z]+_\d+>")
_SPANISH = frozenset(("el", "los", "las", "una", "que", "para", "por", "con", "está", "usted", "su", "gracias", "hola"))
_ENGLISH = frozenset(("the", "is", "and", "you", "for", "with", "we", "to", "of", "your", "it", "are", "thanks", "hi"))


def dataset_features(rows: Iterable[TrainingExample]) -> Features:
    """Return one value a row for each column."""
    columns: dict[str, list[float | str]] = {}
    for row in rows:
        for name, value in _features(row).items():
            columns.setdefault(name, []).append(value)
    return columns


def language(text: str) -> str:
    """Return `es` or `en` by the small words of a text; `other` for neither."""
    words = text.lower().split()
    spanish, english = sum(word in _SPANISH for word in words), sum(word in _ENGLISH for word in words)
    if spanish == english == 0:
        return "other"
    return "es" if spanish > english else "en"


def feed_schema(facts: Facts) -> str:
    """Return which kinds of facts a prompt offered, such as `hours+stock+times`."""
    present = {
        "stock": bool(facts.vehicles),
        "nothing": facts.is_nothing_fitting,
        "service": facts.service is not None,
        "hours": facts.hours is not None,
        "times": bool(facts.times),
        "other": bool(facts.other),
    }
    return "+".join(sorted(name for name, is_present in present.items() if is_present)) or "none"


def _features(row: TrainingExample) -> dict[str, float | str]:
    asked = row.prompt[-1].content
    text = "\n".join(message.content for message in row.messages[1:])
    return {
        "family": row.family.value,
        "source": row.source,
        "label": row.label,
        "language": language(asked),
        "feed": feed_schema(parse_facts(asked)),
        "prompt_words": float(sum(len(message.content.split()) for message in row.prompt)),
        "answer_words": float(len(row.answer.split())),
        "turns": float(len(row.messages)),
        "personal_data": float(len(_SURROGATE.findall(text))),
        "quality": row.quality or 0.0,
    }
