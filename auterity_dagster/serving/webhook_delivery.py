"""Delivers events to the organizations' endpoints: signed, in order for each subject, until they arrive."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from uuid import UUID

from auterity_dagster.background import running_beside
from auterity_dagster.clock import Clock
from auterity_dagster.public_address import BlockedAddress
from auterity_dagster.public_http import CallFailed, HttpCall, PublicHttp
from auterity_dagster.serving.repeated_work import repeated
from auterity_dagster.serving.webhook_signature import sign
from auterity_dagster.storage.database import Database
from auterity_dagster.storage.repositories import webhook_deliveries
from auterity_dagster.storage.repositories.webhook_deliveries import Attempt, Outgoing
from auterity_dagster.storage.repositories.webhook_endpoints import signing_secrets

TIMEOUT_S = 10.0
ANSWER_LIMIT_BYTES = 64 * 1024


class WebhookDeliveries:
    """One process's share of the work; several processes lease different deliveries."""

    def __init__(
        self,
        database: Database,
        http: PublicHttp,
        *,
        pepper: bytes,
        clock: Clock,
        jitter: Callable[[], float],
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._database = database
        self._http = http
        self._pepper = pepper
        self._clock = clock
        self._jitter = jitter
        self._timeout_s = timeout_s

    @asynccontextmanager
    async def running(self, *, every_s: float) -> AsyncGenerator[None]:
        """Work in the background until the block ends."""
        async with running_beside(repeated(self.turn, every_s=every_s)):
            yield

    async def turn(self) -> int:
        """Write down what is new and deliver what is due; returns how many attempts were made."""
        async with self._database.begin_without_organization() as session:
            due = await webhook_deliveries.due(session, now=self._clock.now())
        made = 0
        for organization_id in due:
            made += await self._turn_of(organization_id)
        return made

    async def _turn_of(self, organization_id: UUID) -> int:
        async with self._database.begin(organization_id) as session:
            await webhook_deliveries.fan_out(session, now=self._clock.now())
        async with self._database.begin(organization_id) as session:
            claimed = await webhook_deliveries.claim(session, now=self._clock.now())
        async with asyncio.TaskGroup() as group:
            for one in claimed:
                group.create_task(self.deliver(organization_id, one))
        return len(claimed)

    async def deliver(self, organization_id: UUID, outgoing: Outgoing) -> None:
        """Send first, then write down that it arrived: a death in between repeats it, and never loses it."""
        attempt = await self.attempt(outgoing)
        async with self._database.begin(organization_id) as session:
            await webhook_deliveries.record(session, outgoing, attempt, jitter=self._jitter(), now=self._clock.now())

    async def attempt(self, outgoing: Outgoing) -> Attempt:
        """Post one event, signed with every secret that is valid now."""
        now = self._clock.now()
        body = json.dumps(outgoing.delivery.envelope, ensure_ascii=False, separators=(",", ":")).encode()
        message_id, timestamp = str(outgoing.delivery.envelope["id"]), int(now.timestamp())
        signatures = [
            sign(secret, message_id=message_id, timestamp=timestamp, body=body)
            for secret in signing_secrets(self._pepper, outgoing.endpoint, now=now)
        ]
        headers = {
            "content-type": "application/cloudevents+json",
            "user-agent": "auterity",
            "webhook-id": message_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": " ".join(signatures),
        }
        call = HttpCall(
            "POST",
            outgoing.endpoint.url,
            headers,
            body,
            timeout_s=self._timeout_s,
            body_limit_bytes=ANSWER_LIMIT_BYTES,
        )
        try:
            answer = await asyncio.to_thread(self._http.call, call)
        except (BlockedAddress, CallFailed) as error:
            return Attempt(None, error.message)
        is_taken = 200 <= answer.status < 300
        return Attempt(answer.status, None if is_taken else f"the receiver answered {answer.status}")
