"""A lead sender: signs its deliveries as Standard Webhooks says."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid4

import httpx

from auterity_dagster.serving.webhook_signature import sign


@dataclass(frozen=True)
class LeadSender:
    """Posts to its hook; every delivery has an id of its own unless one is given."""

    client: httpx.AsyncClient
    source_id: UUID
    secret: str
    content_type: str = "application/xml"

    async def post(
        self, body: bytes, *, at: datetime, message_id: str | None = None, secret: str | None = None
    ) -> httpx.Response:
        """Deliver a body, signed now."""
        message_id, timestamp = message_id or f"msg_{uuid4().hex}", int(at.timestamp())
        signature = sign(secret or self.secret, message_id=message_id, timestamp=timestamp, body=body)
        return await self.client.post(
            f"/api/v1/hooks/{self.source_id}",
            content=body,
            headers={
                "content-type": self.content_type,
                "webhook-id": message_id,
                "webhook-timestamp": str(timestamp),
                "webhook-signature": signature,
            },
        )
