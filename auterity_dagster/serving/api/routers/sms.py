"""Text messages from customers, as a service that speaks Twilio's wire posts them."""

from urllib.parse import parse_qsl
from uuid import UUID

from fastapi import Request, Response

from auterity_dagster.automatrix.lead_draft import PhoneDraft
from auterity_dagster.automatrix.phone import usable_phone
from auterity_dagster.errors import Invalid
from auterity_dagster.serving.api.state import State
from auterity_dagster.serving.declared_router import DeclaredRouter, raw_body
from auterity_dagster.serving.delivery import or_unavailable
from auterity_dagster.serving.sms_signature import verify_sms
from auterity_dagster.serving.webhook_signature import refused
from auterity_dagster.storage.repositories import connections, inbound_messages
from auterity_dagster.storage.repositories.inbound_messages import InboundSms

router = DeclaredRouter(tags=["messages"])
FORM = "application/x-www-form-urlencoded"
FORM_LIMIT_BYTES = 64 * 1024
FIELDS_LIMIT = 100
# An unknown connection costs the same work and gets the same answer as a wrong signature.
NOBODYS_TOKEN = "unknown"  # noqa: S105 -- no token
EMPTY_REPLY = '<?xml version="1.0" encoding="UTF-8"?><Response></Response>'


@router.post(
    "/providers/sms/{connection_id}",
    authentication="signature",
    permission="signed_in",
    body_limit_bytes=FORM_LIMIT_BYTES,
    audit_class="none",
    openapi_extra=raw_body(FORM),
    response_class=Response,
)
async def receive_sms(connection_id: UUID, request: Request, state: State) -> Response:
    """Take a customer's message: an opt-out holds before this is answered; the answer itself says nothing back."""
    body = await request.body()
    async with or_unavailable(), state.database.begin_without_organization() as session:
        organization_id = await inbound_messages.locate(session, connection_id)
    token = None
    if organization_id is not None:
        async with or_unavailable(), state.database.begin(organization_id) as session:
            token = await session.run_sync(connections.secret_blocking, connection_id, pepper=state.pepper)
    fields = _fields(body)
    url = (
        f"{state.settings.public_url.rstrip('/')}{request.url.path}" if state.settings.public_url else str(request.url)
    )
    presented = request.headers.get("x-twilio-signature", "")
    verify_sms(token or NOBODYS_TOKEN, url=url, fields=fields, presented=presented)
    if organization_id is None or token is None:
        raise refused()
    message = _message(dict(fields))
    async with or_unavailable(), state.database.begin(organization_id) as session:
        await inbound_messages.take(session, message, rows=state.compliance, now=state.clock.now())
    return Response(EMPTY_REPLY, media_type="text/xml")


def _fields(body: bytes) -> list[tuple[str, str]]:
    try:
        return parse_qsl(body.decode("utf-8"), keep_blank_values=True, max_num_fields=FIELDS_LIMIT)
    except ValueError:
        return []


def _message(fields: dict[str, str]) -> InboundSms:
    phone = usable_phone(PhoneDraft(fields.get("From", "")))
    provider_ref = fields.get("MessageSid", "")
    if phone is None or not 1 <= len(provider_ref) <= 200:
        raise Invalid("a message has a sender's number `From` and a `MessageSid`", field="From")
    return InboundSms(provider_ref, phone.number, fields.get("Body", ""))
