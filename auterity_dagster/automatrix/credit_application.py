"""Credit data in free text: taken out and replaced by a mark before anything else reads the text."""

import re
from bisect import bisect_right

from auterity_dagster.automatrix.lead import VaultedValue

MARK = "[vaulted]"

_LABELS = {
    "date_of_birth": r"dob|d\.o\.b\.?|date of birth|birth ?date|born",
    "ssn": r"ssn|ss#|ss ?no|social(?: security)?(?: (?:number|no\.?|num))?|sin|itin",
    "licence_number": r"dl#?|d/l|driver'?s? ?li[cs]en[cs]e(?: (?:number|no\.?))?|li[cs]en[cs]e (?:number|no\.?)",
    "employer": r"employer(?: name)?|employed (?:at|by)|place of work",
    "employment": r"job(?: title)?|occupation|time (?:on|at) job|years (?:on|at) job|employment(?: status| length)?",
    "income": r"(?:gross |net |other )?(?:monthly |annual |yearly )?(?:household )?income|salary|wages",
    "housing": r"rent(?: amount)?|housing(?: status| payment)?|mortgage(?: payment)?|monthly rent|residence type",
    "bank_account": r"account (?:number|no\.?)|routing (?:number|no\.?)|card number|credit card",
}
_LABEL = re.compile(
    "|".join(f"(?P<{kind}>(?<![\\w@.-])(?:{words}))" for kind, words in _LABELS.items()).join(
        ("(?:", r")\s{0,3}#?[:=#]")
    ),
    re.IGNORECASE,
)
_SSN = re.compile(r"(?<![\w-])[0-9]{3}([- ])[0-9]{2}\1[0-9]{4}(?![\w-])")
_SAID = (
    ("ssn", re.compile(r"\b(?:ssn|social(?: security)?(?: number)?)\b[^0-9|\n]{0,20}([0-9]{9})\b", re.IGNORECASE)),
    (
        "date_of_birth",
        re.compile(
            r"\b(?:dob|born|birth ?da(?:y|te)|date of birth)\b[^0-9|\n]{0,20}"
            r"([0-9]{1,4}[/.-][0-9]{1,2}[/.-][0-9]{2,4})\b",
            re.IGNORECASE,
        ),
    ),
)
_FORMS = {
    "ssn": re.compile(r"[0-9Xx*]{3}[- ]?[0-9Xx*]{2}[- ]?[0-9]{4}(?![0-9])"),
    "date_of_birth": re.compile(r"[0-9]{1,4}[/.-][0-9]{1,2}[/.-][0-9]{2,4}(?![0-9])"),
}
_END = re.compile(r"[|\n\r;]")


def vault(text: str, *, field: str) -> tuple[str, tuple[VaultedValue, ...]]:
    """Return the text with every credit value replaced by a mark, and the values in the order they stood.

    A labelled value reaches to the next `|`, `;`, line end or label; one of a known form ends with its form.
    """
    spans = _without_overlaps([*_labelled(text), *_unlabelled(text)])
    parts: list[str] = []
    position = 0
    for start, end, _ in spans:
        parts += [text[position:start], MARK]
        position = end
    parts.append(text[position:])
    return "".join(parts), tuple(VaultedValue(kind, text[start:end], field) for start, end, kind in spans)


def _labelled(text: str) -> list[tuple[int, int, str]]:
    spans: list[tuple[int, int, str]] = []
    labels = list(_LABEL.finditer(text))
    ends = [found.start() for found in _END.finditer(text)]
    for number, label in enumerate(labels):
        start = label.end()
        following = bisect_right(ends, start - 1)
        end = ends[following] if following < len(ends) else len(text)
        if number + 1 < len(labels):
            end = min(end, labels[number + 1].start())
        value = text[start:end].strip(" \t,")
        if not value:
            continue
        start += text[start:end].index(value)
        kind = str(label.lastgroup)
        form = _FORMS[kind].match(value) if kind in _FORMS else None
        spans.append((start, start + (form.end() if form else len(value)), kind))
    return spans


def _unlabelled(text: str) -> list[tuple[int, int, str]]:
    spans = [(found.start(), found.end(), "ssn") for found in _SSN.finditer(text)]
    for kind, pattern in _SAID:
        spans += [(found.start(1), found.end(1), kind) for found in pattern.finditer(text)]
    return spans


def _without_overlaps(spans: list[tuple[int, int, str]]) -> list[tuple[int, int, str]]:
    kept: list[tuple[int, int, str]] = []
    for span in sorted(spans):
        if not kept or span[0] >= kept[-1][1]:
            kept.append(span)
        elif span[1] > kept[-1][1]:
            kept[-1] = (kept[-1][0], span[1], kept[-1][2])
    return kept
