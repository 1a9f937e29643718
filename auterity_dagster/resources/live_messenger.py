"""`automatrix.ports.Messenger` of an installation: the organization's live connection, else the sandbox."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from auterity_dagster.automatrix.compliance.rows import Channel
from auterity_dagster.automatrix.connection import Connection, SmsSettings, SmtpSettings
from auterity_dagster.automatrix.ports import Message, Messenger, Receipt
from auterity_dagster.clock import Clock
from auterity_dagster.public_http import PublicHttp
from auterity_dagster.resources.sms_messenger import SmsMessenger
from auterity_dagster.resources.smtp_messenger import SmtpMessenger
from auterity_dagster.storage.database import BlockingDatabase
from auterity_dagster.storage.repositories import connections

_KIND: dict[Channel, Literal["smtp", "sms"]] = {"email": "smtp", "sms": "sms"}


@dataclass(frozen=True, slots=True)
class LiveMessenger:
    """Nothing leaves until an administrator switched a connection of the channel live."""

    database: BlockingDatabase
    sandbox: Messenger
    http: PublicHttp
    pepper: Callable[[], bytes]
    clock: Clock

    def is_live(self, organization_id: UUID, channel: Channel) -> bool:
        return self._connection(organization_id, channel) is not None

    def repeats_safely(self, message: Message) -> bool:
        return self._of(message).repeats_safely(message)

    def send(self, message: Message, key: str) -> Receipt:
        return self._of(message).send(message, key)

    def lookup(self, message: Message, key: str) -> Receipt | None:
        return self._of(message).lookup(message, key)

    def _of(self, message: Message) -> Messenger:
        connection = self._connection(message.organization_id, message.channel)
        match connection:
            case Connection(settings=SmtpSettings() as settings):
                return SmtpMessenger(settings, self._secret(message.organization_id, connection), self.http)
            case Connection(settings=SmsSettings() as settings):
                return SmsMessenger(settings, self._secret(message.organization_id, connection), self.http, self.clock)
            case _:
                return self.sandbox

    def _connection(self, organization_id: UUID, channel: Channel) -> Connection | None:
        with self.database.begin(organization_id) as session:
            return connections.live_blocking(session, _KIND[channel])

    def _secret(self, organization_id: UUID, connection: Connection) -> Callable[[], str | None]:
        def opened() -> str | None:
            with self.database.begin(organization_id) as session:
                return connections.secret_blocking(session, connection.id, pepper=self.pepper())

        return opened
