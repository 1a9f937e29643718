"""Compliance as dated data: each row has its source, the day it begins and ends, and whether counsel verified it.

Of the rows in force the strictest wins: every window, cap and requirement of every row holds at once.
"""

from collections.abc import Iterable
from datetime import date, datetime, time
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from auterity_dagster.automatrix.workflow import Duration
from auterity_dagster.errors import ConfigurationInvalid

Channel = Literal["sms", "email"]
Purpose = Literal["inquiry_reply", "missed_call_reply", "service_reminder", "recall_notice", "follow_up", "survey"]
Level = Literal["none", "inquiry", "relationship", "express", "written"]
LEVELS: tuple[Level, ...] = get_args(Level)
"""What a customer agreed to, the least first."""

Scope = Annotated[str, Field(pattern=r"^(?:house|us|us-[a-z]{2})$")]
"""`us` for everybody, `us-fl` for customers or dealerships there, `house` for the operator's own rules."""


def _clock(value: object) -> object:
    if isinstance(value, str):
        return time.fromisoformat(value)
    raise ValueError('a time of day such as "08:00" was expected')


def _day(value: object) -> object:
    return date.fromisoformat(value) if isinstance(value, str) else value


Clock = Annotated[time, BeforeValidator(_clock)]
Day = Annotated[date, BeforeValidator(_day)]


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,62}$")]
    scope: Scope
    since: Annotated[Day, Field(alias="from")]
    until: Day | None = None
    source: Annotated[str, Field(min_length=3)]
    is_verified: bool

    @property
    def state(self) -> str | None:
        """The state that the row is of, None for the country's and the house's."""
        return self.scope.partition("-")[2].upper() or None


class QuietHours(_Row):
    """Messages leave between `begin` and `end` of the customer's day only."""

    kind: Literal["quiet_hours"]
    channels: tuple[Channel, ...]
    begin: Clock
    end: Clock

    @model_validator(mode="after")
    def _begins_before_it_ends(self) -> "QuietHours":
        if self.begin >= self.end:
            raise ValueError("`begin` comes before `end` on the same day")
        return self


class Consent(_Row):
    """What a customer must have agreed to, by purpose; a purpose that no row names is not sent at all."""

    kind: Literal["consent"]
    channels: tuple[Channel, ...]
    purposes: dict[Purpose, Level]


class FrequencyCap(_Row):
    """At most so many messages to a customer within any such time."""

    kind: Literal["frequency_cap"]
    channels: tuple[Channel, ...]
    max_messages: Annotated[int, Field(ge=1, le=100)]
    within: Duration


class Revocation(_Row):
    """Words that end a customer's consent, and for what."""

    kind: Literal["revocation"]
    words: tuple[str, ...]
    ends: Literal["channel", "all"]


class AiDisclosure(_Row):
    """The first message of a thread that an AI wrote says so; the text is added where it does not."""

    kind: Literal["ai_disclosure"]
    channels: tuple[Channel, ...]
    text: Annotated[str, Field(min_length=10, max_length=160)]


class PriceClaims(_Row):
    """An amount in a text is the total price of an available vehicle, in a feed not older than this."""

    kind: Literal["price_claims"]
    max_feed_age: Duration


class CreditDecisions(_Row):
    """No text approves, refuses, pre-screens or steers credit."""

    kind: Literal["credit_decisions"]


class RecallWording(_Row):
    """Without a match by VIN a recall may apply; nobody is alarmed."""

    kind: Literal["recall_wording"]


class EmailFooter(_Row):
    """E-mails of these purposes end with the dealership's postal address."""

    kind: Literal["email_footer"]
    purposes: tuple[Purpose, ...]


class EmailOptOut(_Row):
    """E-mails of these purposes name a link that ends them, in their text and for the mail program's own button."""

    kind: Literal["email_opt_out"]
    purposes: tuple[Purpose, ...]


class NoVoice(_Row):
    """There is no step that speaks: an AI voice is an artificial voice."""

    kind: Literal["no_voice"]


class Disposal(_Row):
    """Customer information is disposed of at the latest so long after its last use."""

    kind: Literal["disposal"]
    after: Duration


Row = Annotated[
    QuietHours
    | Consent
    | FrequencyCap
    | Revocation
    | AiDisclosure
    | PriceClaims
    | CreditDecisions
    | RecallWording
    | EmailFooter
    | EmailOptOut
    | NoVoice
    | Disposal,
    Field(discriminator="kind"),
]


class ComplianceRows(BaseModel):
    """The file, in its order."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1]
    rows: Annotated[tuple[Row, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _each_id_once(self) -> "ComplianceRows":
        ids = [row.id for row in self.rows]
        twice = sorted({one for one in ids if ids.count(one) > 1})
        if twice:
            raise ValueError(f"{', '.join(twice)} stands there twice")
        return self

    def in_force(self, now: datetime, states: Iterable[str]) -> tuple[Row, ...]:
        """Return the rows that bind now, for a customer and a dealership in these states."""
        today, where = now.date(), frozenset(states)
        return tuple(
            row
            for row in self.rows
            if row.since <= today
            and (row.until is None or today < row.until)
            and (row.state is None or row.state in where)
        )


def load_compliance(path: Path) -> ComplianceRows:
    """Read the file strictly. Raises `ConfigurationInvalid` with every mistake and its place."""
    try:
        document: object = YAML(typ="safe", pure=True).load(path)  # pyright: ignore[reportUnknownMemberType]
    except (YAMLError, OSError) as error:
        raise ConfigurationInvalid(f"{path}: {' '.join(str(error).split())}") from error
    try:
        return ComplianceRows.model_validate(document)
    except ValidationError as error:
        told = [f"{path}: {'.'.join(str(part) for part in one['loc'])}: {one['msg']}" for one in error.errors()]
        raise ConfigurationInvalid("\n".join(told)) from error
