"""From the line to a request: authenticate, read the body within its limit, and put body and headers together."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from uuid import uuid4

from starlette.types import Receive, Scope

from auterity_dagster.errors import TooLarge, Unavailable
from auterity_dagster.identity.permission import Permission
from auterity_dagster.identity.principal import Principal
from auterity_dagster.relaycore.chat import (
    MESSAGE_OVERHEAD_TOKENS,
    REQUEST_OVERHEAD_TOKENS,
    TOOLS_OVERHEAD_TOKENS,
    ChatRequest,
)
from auterity_dagster.relaycore.trace_context import request_trace
from auterity_dagster.serving.authentication import presented_credential
from auterity_dagster.serving.relaycore.idempotency import claim_of
from auterity_dagster.serving.relaycore.request_headers import declared
from auterity_dagster.serving.relaycore.state import GatewayState
from auterity_dagster.serving.relaycore.wire import Asked, Wire, read_body

BODY_LIMIT_BYTES = 1024 * 1024
BYTES_PER_TOKEN_ESTIMATE = 4


async def read_request(wire: Wire, state: GatewayState, scope: Scope, receive: Receive) -> Asked:
    """Authenticate before the body is read, then read it. Raises our own errors only."""
    headers = _headers(scope)
    credential = presented_credential(headers.get("authorization"), x_api_key=headers.get("x-api-key"))
    principal = await state.authentication.api_key(credential)
    principal.require(Permission.GATEWAY_CALL)
    raw = await _read(headers, receive)
    asked = asked_of(wire, raw, headers=headers, principal=principal, traced_share=state.traced_share)
    if asked.request.needs_json:
        state.schemas.require_usable(asked.body, asked.request.wire)
    claim = claim_of(headers, route=scope["path"], key_id=principal.id, raw=raw)
    if claim is not None:
        asked = replace(asked, request=replace(asked.request, claim=claim))
    if asked.request.caller.dealership_id is not None:
        await state.catalog.require_dealership(asked.request.caller.organization_id, asked.request.caller.dealership_id)
    return asked


def asked_of(
    wire: Wire, raw: bytes, *, headers: Mapping[str, str], principal: Principal, traced_share: float | None = None
) -> Asked:
    """Return the request that headers and body make. Raises `Invalid` naming the field, or `NotPermitted`.

    The body's size bounds the prompt's tokens: no tokenizer makes more tokens than there are bytes.
    """
    written = read_body(raw)
    content = wire.read(written)
    said = declared(headers, principal)
    text_bytes = len(raw) - content.image_bytes
    overhead = MESSAGE_OVERHEAD_TOKENS * content.messages + REQUEST_OVERHEAD_TOKENS
    request_id = uuid4()
    request = ChatRequest(
        id=request_id,
        caller=said.caller,
        model=content.model,
        task=said.task,
        prompt_tokens_bound=text_bytes + overhead + (TOOLS_OVERHEAD_TOKENS if content.has_tools else 0),
        prompt_tokens_estimate=text_bytes // BYTES_PER_TOKEN_ESTIMATE + overhead,
        max_tokens=content.max_tokens,
        is_stream=content.is_stream,
        wire=content.wire,
        kind=content.kind,
        has_tools=content.has_tools,
        images=content.images,
        needs_json=content.needs_json,
        untranslatable=content.untranslatable + (content.droppable if said.requires_parameters else ()),
        droppable=content.droppable,
        quality_min=said.quality_min,
        max_cost_nusd=said.max_cost_nusd,
        timeout_s=said.timeout_s,
        subject=said.subject,
        cache=said.cache,
        metadata=content.labels if said.data_class is None else {**content.labels, "data_class": said.data_class},
        trace=request_trace(request_id, headers.get("traceparent"), recorded_share=traced_share),
    )
    return Asked(request, content.body, written)


async def _read(headers: Mapping[str, str], receive: Receive) -> bytes:
    declared_size = headers.get("content-length", "0")
    if not declared_size.isdigit() or int(declared_size) > BODY_LIMIT_BYTES:
        raise _too_large()
    parts: list[bytes] = []
    size = 0
    while True:
        message: Any = await receive()
        if message["type"] == "http.disconnect":
            raise Unavailable("The caller left before its request was complete.", code="client_gone")
        part: bytes = message.get("body", b"")
        size += len(part)
        if size > BODY_LIMIT_BYTES:
            raise _too_large()
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


def _headers(scope: Scope) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


def _too_large() -> TooLarge:
    return TooLarge(f"A request may have {BODY_LIMIT_BYTES} bytes.")
