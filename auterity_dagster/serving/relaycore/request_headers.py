"""What a request's headers declare, the same on every wire: for whom, which task, and tighter limits."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from uuid import UUID

from auterity_dagster.errors import Invalid, NotPermitted
from auterity_dagster.identity.principal import Principal
from auterity_dagster.money import NanoUsd, nano_usd
from auterity_dagster.relaycore.chat import CacheWish, Caller

DEFAULT_PURPOSE = "interactive"
MAX_TAGS = 8

_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,62}")


@dataclass(frozen=True, slots=True)
class Declared:
    """The fields of `ChatRequest` that headers set; `requires_parameters` forbids leaving any field out."""

    caller: Caller
    task: str | None
    quality_min: float | None
    max_cost_nusd: NanoUsd | None
    timeout_s: float | None
    subject: str | None
    cache: CacheWish | None
    data_class: str | None
    requires_parameters: bool


def declared(headers: Mapping[str, str], principal: Principal) -> Declared:
    """Read the headers. Raises `Invalid` naming the header, or `NotPermitted`."""
    caller = _caller(headers, principal)
    return Declared(
        caller=caller,
        task=_name(headers, "x-auterity-task", such_as="lead_reply"),
        quality_min=_share(headers),
        max_cost_nusd=nano_usd(dollars) if (dollars := headers.get("x-auterity-max-cost-usd")) else None,
        timeout_s=_seconds(headers),
        subject=_subject(headers, caller),
        cache=_cache(headers),
        data_class=_name(headers, "x-auterity-data-class", such_as="restricted"),
        requires_parameters=_flag(headers, "x-auterity-require-parameters"),
    )


def _caller(headers: Mapping[str, str], principal: Principal) -> Caller:
    purposes = principal.purposes or {DEFAULT_PURPOSE}
    purpose = headers.get("x-auterity-purpose") or (next(iter(purposes)) if len(purposes) == 1 else DEFAULT_PURPOSE)
    if purpose not in purposes:
        raise NotPermitted(f"The key may be used for {', '.join(sorted(purposes))} only.", field="x-auterity-purpose")
    return Caller(
        organization_id=principal.organization_id,
        key_id=principal.id,
        dealership_id=_dealership(headers, principal),
        purpose=purpose,
        user_id=principal.user_id,
        tags=_tags(headers),
    )


def _tags(headers: Mapping[str, str]) -> tuple[str, ...]:
    """Return the tags without repetition, in order: a budget of a tag counts a call once."""
    text = headers.get("x-auterity-tags")
    if text is None:
        return ()
    tags = tuple(sorted({part.strip() for part in text.split(",")}))
    if len(tags) > MAX_TAGS or not all(_TAG.fullmatch(tag) for tag in tags):
        raise Invalid(f"Tags are at most {MAX_TAGS} names such as campaign:spring.", field="x-auterity-tags")
    return tags


def _dealership(headers: Mapping[str, str], principal: Principal) -> UUID | None:
    bound = principal.dealership_ids
    text = headers.get("x-auterity-dealership")
    if text is None:
        if bound is None:
            return None
        if len(bound) == 1:
            return next(iter(bound))
        raise Invalid("The key is bound to dealerships: name one of them.", field="x-auterity-dealership")
    try:
        dealership_id = UUID(text)
    except ValueError as error:
        raise Invalid("A dealership is named by its id.", field="x-auterity-dealership") from error
    if not principal.may_see(dealership_id):
        raise NotPermitted("There is no such dealership, or the key may not act for it.", field="x-auterity-dealership")
    return dealership_id


def _flag(headers: Mapping[str, str], header: str) -> bool:
    value = headers.get(header, "false")
    if value not in ("true", "false"):
        raise Invalid("This header is true or false.", field=header)
    return value == "true"


def _name(headers: Mapping[str, str], header: str, *, such_as: str) -> str | None:
    value = headers.get(header)
    if value is not None and not _NAME.fullmatch(value):
        raise Invalid(f"This header is a name such as {such_as}.", field=header)
    return value


def _cache(headers: Mapping[str, str]) -> CacheWish | None:
    value = headers.get("x-auterity-cache")
    if value is None or value == "off" or value == "refresh":
        return value
    raise Invalid("This header is off or refresh.", field="x-auterity-cache")


def _share(headers: Mapping[str, str]) -> float | None:
    text = headers.get("x-auterity-quality-min")
    if text is None:
        return None
    value = _decimal(text, "x-auterity-quality-min")
    if not 0 <= value <= 1:
        raise Invalid("A quality lies between 0 and 1.", field="x-auterity-quality-min")
    return float(value)


def _seconds(headers: Mapping[str, str]) -> float | None:
    text = headers.get("x-auterity-timeout-s")
    if text is None:
        return None
    value = _decimal(text, "x-auterity-timeout-s")
    if value <= 0:
        raise Invalid("A timeout is a number of seconds above 0.", field="x-auterity-timeout-s")
    return float(value)


def _decimal(text: str, header: str) -> Decimal:
    try:
        value = Decimal(text)
    except InvalidOperation as error:
        raise Invalid("This header is a decimal number.", field=header) from error
    if not value.is_finite():
        raise Invalid("This header is a decimal number.", field=header)
    return value


def _subject(headers: Mapping[str, str], caller: Caller) -> str | None:
    text = headers.get("x-auterity-subject")
    return None if text is None else hashlib.sha256(f"{caller.organization_id}|{text}".encode()).hexdigest()
