"""`automatrix.ports.Connections` over PostgreSQL and HTTP: a secret is opened for the call and for nothing else."""

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from uuid import UUID

from auterity_dagster.automatrix.connection import (
    Connection,
    ConnectionAnswer,
    ConnectionCall,
    ConnectionFailed,
    WebService,
)
from auterity_dagster.public_address import BlockedAddress
from auterity_dagster.public_http import CallFailed, HttpCall, PublicHttp
from auterity_dagster.storage.database import BlockingDatabase
from auterity_dagster.storage.repositories import connections

_CODES = {"connection": "connection", "timeout": "timeout", "too_large": "invalid_output", "malformed": "connection"}


@dataclass(frozen=True, slots=True)
class ConnectionCalls:
    """Calls what an organization named; `pepper` is read when the first secret is opened."""

    database: BlockingDatabase
    http: PublicHttp
    pepper: Callable[[], bytes]

    def find(self, organization_id: UUID, name: str) -> Connection | None:
        with self.database.begin(organization_id) as session:
            return connections.find_blocking(session, name)

    def call(self, organization_id: UUID, connection: Connection, call: ConnectionCall) -> ConnectionAnswer:
        settings = connection.settings
        if not isinstance(settings, WebService):
            raise ConnectionFailed("invalid_input", f"{connection.name} is no web service", is_unknown=False)
        headers = {
            "user-agent": "auterity",
            "accept": "application/json",
            **self._credentials(organization_id, connection),
        }
        if call.body is not None:
            headers["content-type"] = "application/json"
        if call.idempotency_key is not None:
            headers["idempotency-key"] = call.idempotency_key
        url = settings.base_url.rstrip("/") + call.path
        try:
            answer = self.http.call(HttpCall(call.method, url, headers, call.body, timeout_s=call.timeout_s))
        except BlockedAddress as error:
            raise ConnectionFailed("blocked_address", error.message, is_unknown=False) from error
        except CallFailed as error:
            raise ConnectionFailed(_CODES[error.cause], error.message, is_unknown=error.is_unknown) from error
        after = answer.headers.get("retry-after", "")
        return ConnectionAnswer(answer.status, answer.body, float(after) if after.isdecimal() else None)

    def _credentials(self, organization_id: UUID, connection: Connection) -> Mapping[str, str]:
        settings = connection.settings
        assert isinstance(settings, WebService)
        if settings.scheme == "none":
            return {}
        with self.database.begin(organization_id) as session:
            secret = connections.secret_blocking(session, connection.id, pepper=self.pepper())
        if secret is None:
            raise ConnectionFailed("invalid_input", f"{connection.name} has no secret", is_unknown=False)
        match settings.scheme:
            case "bearer":
                return {"authorization": f"Bearer {secret}"}
            case "basic":
                pair = base64.b64encode(f"{settings.username}:{secret}".encode()).decode()
                return {"authorization": f"Basic {pair}"}
            case "header":
                return {settings.header.lower(): secret}
