"""`automatrix.ports.Messenger` over SMTP: one plain e-mail, whose Message-ID is the same for every attempt."""

import smtplib
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from email import policy
from email.message import EmailMessage
from email.utils import formatdate
from hashlib import sha256
from uuid import UUID

from auterity_dagster.automatrix.compliance.rows import Channel
from auterity_dagster.automatrix.connection import SmtpSettings
from auterity_dagster.automatrix.ports import Message, MessengerFailed, Receipt
from auterity_dagster.public_address import BlockedAddress
from auterity_dagster.public_http import CallFailed, PublicHttp

TIMEOUT_S = 30.0
# At the usual 78 characters a long address is written as encoded words, and mail programs no longer read it as one.
_WHOLE_LINES = policy.default.clone(max_line_length=998)


@dataclass(frozen=True, slots=True)
class SmtpMessenger:
    """Sends through one mail server. Nothing can be asked afterwards: SMTP has no look-up, and a repeat is a repeat."""

    settings: SmtpSettings
    secret: Callable[[], str | None]
    http: PublicHttp

    def is_live(self, organization_id: UUID, channel: Channel) -> bool:
        return True

    def repeats_safely(self, message: Message) -> bool:
        return False

    def lookup(self, message: Message, key: str) -> Receipt | None:
        return None

    def send(self, message: Message, key: str) -> Receipt:
        mail = _mail(self.settings, message, key)
        try:
            server = self._connect()
        except BlockedAddress as error:
            raise MessengerFailed("blocked_address", error.message, is_unknown=False) from error
        except CallFailed as error:
            raise MessengerFailed("connection", error.message, is_unknown=False) from error
        except (OSError, smtplib.SMTPException) as error:
            raise _failed(error) from error
        try:
            self._sign_in(server)
            refused = server.mail(self.settings.from_address)
            if refused[0] != 250:
                raise smtplib.SMTPSenderRefused(*refused, self.settings.from_address)
            refused = server.rcpt(message.address)
            if refused[0] not in (250, 251):
                raise smtplib.SMTPRecipientsRefused({message.address: refused})
        except (OSError, smtplib.SMTPException) as error:
            server.close()
            raise _failed(error) from error
        return self._deliver(server, mail)

    def _deliver(self, server: smtplib.SMTP, mail: EmailMessage) -> Receipt:
        """From here on the server may have taken it: only its own words say that it has not."""
        try:
            code, said = server.data(mail.as_bytes())
        except smtplib.SMTPDataError as error:
            raise _failed(error) from error
        except (OSError, smtplib.SMTPException) as error:
            raise MessengerFailed("connection", "the mail server broke off after the text", is_unknown=True) from error
        finally:
            server.close()
        if code != 250:
            raise _failed(smtplib.SMTPDataError(code, said))
        return Receipt(str(mail["message-id"]))

    def _connect(self) -> smtplib.SMTP:
        settings = self.settings
        origin = f"smtp://{settings.host}:{settings.port}"
        raw = self.http.open(
            settings.host,
            settings.port,
            deadline=time.monotonic() + TIMEOUT_S,
            is_private=origin in self.http.private_origins,
        )
        raw.settimeout(TIMEOUT_S)
        if settings.security == "tls":
            raw = self.http.tls.wrap_socket(raw, server_hostname=settings.host)
        return _Connected(raw)

    def _sign_in(self, server: smtplib.SMTP) -> None:
        server.ehlo_or_helo_if_needed()
        if self.settings.security == "starttls":
            server._host = self.settings.host  # type: ignore[attr-defined] -- what the certificate must name
            server.starttls(context=self.http.tls)
        password = self.secret()
        if self.settings.username and password is not None:
            server.login(self.settings.username, password)


class _Connected(smtplib.SMTP):
    """A client on a connection that was made to a checked address."""

    def __init__(self, raw: socket.socket) -> None:
        super().__init__(timeout=TIMEOUT_S)
        self.sock = raw
        self.file = raw.makefile("rb")
        code, said = self.getreply()
        if code != 220:
            self.close()
            raise smtplib.SMTPConnectError(code, said)


def message_id(key: str, *, domain: str) -> str:
    """Return the Message-ID of every attempt under this key."""
    return f"<{sha256(key.encode()).hexdigest()[:40]}@{domain}>"


def _mail(settings: SmtpSettings, message: Message, key: str) -> EmailMessage:
    mail = EmailMessage(policy=_WHOLE_LINES)
    domain = settings.from_address.rpartition("@")[2]
    mail["From"] = f"{settings.from_name} <{settings.from_address}>" if settings.from_name else settings.from_address
    mail["To"] = message.address
    mail["Subject"] = " ".join((message.subject or "").split())
    mail["Date"] = formatdate()
    mail["Message-ID"] = message_id(key, domain=domain)
    if message.unsubscribe_url is not None:
        mail["List-Unsubscribe"] = f"<{message.unsubscribe_url}>"
        mail["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    mail.set_content(message.text)
    return mail


def _failed(error: OSError | smtplib.SMTPException) -> MessengerFailed:
    """A failure before the text was handed over: nothing left. 4xx passes, 5xx does not."""
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        code, _said = next(iter(error.recipients.values()))
        return MessengerFailed(_code(code), f"the mail server refused the recipient: {code}", is_unknown=False)
    if isinstance(error, smtplib.SMTPResponseException):
        return MessengerFailed(_code(error.smtp_code), f"the mail server answered {error.smtp_code}", is_unknown=False)
    if isinstance(error, ssl.SSLError):
        return MessengerFailed("connection", "no TLS with the mail server", is_unknown=False)
    return MessengerFailed("connection", f"the mail server broke off: {type(error).__name__}", is_unknown=False)


def _code(smtp_code: int) -> str:
    return "overloaded" if 400 <= smtp_code < 500 else "invalid_input"
