"""Connections to outside systems: a name that a workflow may use, what stands behind it, and a secret nobody reads."""

from dataclasses import dataclass
from typing import Annotated, Literal, Protocol
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter

from auterity_dagster.automatrix.phone import usable_email
from auterity_dagster.errors import Invalid

Line = Annotated[str, StringConstraints(min_length=1, max_length=300, pattern=r"^[!-~]+$")]
Email = Annotated[str, StringConstraints(min_length=3, max_length=254)]
Number = Annotated[str, StringConstraints(pattern=r"^\+[1-9][0-9]{6,14}$")]


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class WebService(_Settings):
    """A web service; the secret goes into the header that `scheme` says."""

    base_url: Line
    scheme: Literal["none", "bearer", "header", "basic"] = "none"
    header: Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9-]{0,60}$")] = "x-api-key"
    username: Annotated[str, StringConstraints(max_length=120)] = ""
    honours_idempotency_key: bool = False
    """True if the service does nothing twice for one `Idempotency-Key`: then a call without an answer is repeated."""


class HttpSettings(WebService):
    """A service that `http_request` calls."""

    kind: Literal["http"]


class CrmHttpSettings(WebService):
    """A CRM that takes `POST {base_url}/{operation}` with fields and answers `external_id`."""

    kind: Literal["crm_http"]


class CrmAdfSettings(_Settings):
    """A CRM that reads ADF from a mailbox: nearly every one does."""

    kind: Literal["crm_adf"]
    address: Email


class SmtpSettings(_Settings):
    """A mail server; the secret is the password."""

    kind: Literal["smtp"]
    host: Annotated[str, StringConstraints(min_length=1, max_length=253)]
    port: Annotated[int, Field(ge=1, le=65535)] = 587
    security: Literal["starttls", "tls"] = "starttls"
    username: Annotated[str, StringConstraints(max_length=254)] = ""
    from_address: Email
    from_name: Annotated[str, StringConstraints(max_length=120, pattern=r"^[^\r\n]*$")] = ""


class SmsSettings(_Settings):
    """A text-message service that speaks Twilio's wire; the secret is the auth token."""

    kind: Literal["sms"]
    base_url: Line = "https://api.twilio.com"
    account_sid: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]{1,64}$")]
    from_number: Number


ConnectionSettings = Annotated[
    HttpSettings | CrmHttpSettings | CrmAdfSettings | SmtpSettings | SmsSettings, Field(discriminator="kind")
]
ConnectionKind = Literal["http", "crm_http", "crm_adf", "smtp", "sms"]
SETTINGS: TypeAdapter[ConnectionSettings] = TypeAdapter(ConnectionSettings)


@dataclass(frozen=True, slots=True)
class Connection:
    """One connection as a worker needs it; with `is_live` messages really leave through it."""

    id: UUID
    name: str
    settings: ConnectionSettings
    is_live: bool

    @property
    def repeats_safely(self) -> bool:
        """True if a call that was made twice takes effect once."""
        return isinstance(self.settings, WebService) and self.settings.honours_idempotency_key


@dataclass(frozen=True, slots=True)
class ConnectionCall:
    """One request below a connection's base URL; `body` is JSON, `idempotency_key` goes along as a header."""

    method: str
    path: str
    body: bytes | None
    timeout_s: float
    idempotency_key: str | None


@dataclass(frozen=True, slots=True)
class ConnectionAnswer:
    """What came back, whatever the status; `retry_after_s` where the service said when to come back."""

    status: int
    body: bytes
    retry_after_s: float | None


class ConnectionFailed(Exception):
    """No answer came; `code` is one of a step's errors. `is_unknown` if the call may have had its effect."""

    def __init__(self, code: str, message: str, *, is_unknown: bool) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.is_unknown = is_unknown


class Connections(Protocol):
    """The outside systems that an organization named; their secrets stay behind this port."""

    def find(self, organization_id: UUID, name: str) -> Connection | None:
        """Return a connection by its name."""
        ...

    def call(self, organization_id: UUID, connection: Connection, call: ConnectionCall) -> ConnectionAnswer:
        """Raises `ConnectionFailed`."""
        ...


def require_addresses(settings: ConnectionSettings) -> None:
    """Raise `Invalid` for a mail address that no server would take."""
    written = {"address": getattr(settings, "address", None), "from_address": getattr(settings, "from_address", None)}
    for field, address in written.items():
        if address is not None and usable_email(address) is None:
            raise Invalid(f"{field} is no e-mail address", field=field)
