"""Phone numbers and e-mail addresses: which of them can be used, and as what."""

import re

import phonenumbers

from auterity_dagster.automatrix.lead import Phone, PhoneKind
from auterity_dagster.automatrix.lead_draft import PhoneDraft

NUMBER_LIMIT = 64
_KINDS: dict[str, PhoneKind] = {
    "mobile": "mobile", "cell": "mobile", "cellphone": "mobile", "cellular": "mobile", "cell phone": "mobile",
    "home": "home", "work": "work", "business": "work", "office": "work", "fax": "fax", "pager": "pager",
}  # fmt: skip
_EMAIL = re.compile(
    r"[a-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[a-z0-9!#$%&'*+/=?^_`{|}~-]+)*@(?:[a-z0-9-]{1,63}\.)+[a-z]{2,63}"
)


def usable_phone(draft: PhoneDraft, *, region: str = "US") -> Phone | None:
    """Return the number in E.164 with its kind, or None if it can be no number of its country's plan."""
    if len(draft.written) > NUMBER_LIMIT:
        return None
    try:
        number = phonenumbers.parse(draft.written, region)
    except phonenumbers.NumberParseException:
        return None
    if not phonenumbers.is_valid_number(number):
        return None
    return Phone(
        number=phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164),
        kind=_KINDS.get(draft.kind.strip().lower(), "voice"),
        extension=number.extension or None,
        best_time=draft.best_time or None,
        is_preferred=draft.is_preferred,
    )


def usable_email(written: str) -> str | None:
    """Return the address in lower case, or None if no mail server would take it."""
    address = written.strip().lower()
    return address if len(address) <= 254 and _EMAIL.fullmatch(address) else None
