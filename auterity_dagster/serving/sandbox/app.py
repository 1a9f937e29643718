"""The sandbox provider: an offline stand-in for OpenAI and Anthropic, with a fault dial and a bill of its own.

It is no AI and says so; no money is owed for it. It listens on loopback and admits one token.
"""

import asyncio
import hmac
import json
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any, Protocol
from uuid import uuid4

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict

from auterity_dagster.errors import Invalid, NotAuthenticated
from auterity_dagster.identity.secret_file import read_secret
from auterity_dagster.serving.authentication import presented_credential
from auterity_dagster.serving.declared_router import DeclaredRouter, verify_declared
from auterity_dagster.serving.http_errors import install_error_handlers
from auterity_dagster.serving.sandbox import wire_anthropic, wire_openai
from auterity_dagster.serving.sandbox.bill import MODELS, Bill, line
from auterity_dagster.serving.sandbox.completion import Completion, complete
from auterity_dagster.serving.sandbox.faults import FAULTS, STATUS_OF_REFUSAL, DialSetting, FaultDial
from auterity_dagster.serving.sandbox.spoiling import BreakableResponse, Event, spoiled_stream, spoiled_text
from auterity_dagster.serving.sandbox.wire_openai import TOO_LONG
from auterity_dagster.settings import SandboxSettings

FAULT_HEADER = "x-sandbox-fault"
BODY_LIMIT_BYTES = 4 * 1024 * 1024
LABEL = {"x-sandbox": "offline provider; answers follow written rules; no money is owed"}

router = DeclaredRouter()


class Wire(Protocol):
    """What the two wire modules offer."""

    asked: Any
    answer: Any
    events: Any
    error: Any
    error_event: Any


@dataclass(frozen=True, slots=True)
class SandboxState:
    """What every request shares."""

    token: str
    bill: Bill
    dial: FaultDial
    seed: int
    token_latency_s: float


class DialRead(BaseModel):
    """The whole dial."""

    model_config = ConfigDict(extra="forbid")

    settings: list[DialSetting]


def create_app() -> FastAPI:
    """Compose the process from its environment, for `uvicorn --factory`."""
    return build_app(SandboxSettings())  # pyright: ignore[reportCallIssue]


def build_app(settings: SandboxSettings) -> FastAPI:
    """Return the app."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncGenerator[dict[str, Any]]:
        bill = Bill(settings.data_dir / "sandbox" / "bill.jsonl")
        state = SandboxState(
            token=read_secret(settings.secrets_dir, "sandbox_token"),
            bill=bill,
            dial=FaultDial(seed=settings.sandbox_seed),
            seed=settings.sandbox_seed,
            token_latency_s=settings.sandbox_token_latency_ms / 1000,
        )
        yield {"sandbox": state}
        bill.close()

    app = FastAPI(title="Auterity sandbox provider", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.include_router(router)
    install_error_handlers(app)
    verify_declared(app)
    return app


@router.get("/healthz", authentication="public", permission="public", body_limit_bytes=0, audit_class="none")
async def healthz() -> dict[str, str]:
    """Tell that the process answers, and what it is."""
    return {"status": "ok", "provider": "sandbox"}


@router.get("/bill", authentication="signature", permission="signed_in", body_limit_bytes=0, audit_class="none")
async def read_bill(request: Request, lines: bool = False) -> dict[str, Any]:
    """Return the total of everything billed; with `lines=true` each line too."""
    bill = _admitted(request).bill
    listed = {"lines": [asdict(one) for one in bill.lines]} if lines else {}
    return {"total_nusd": bill.total_nusd, "answers": len(bill.lines), **listed}


@router.post(
    "/control/faults", authentication="signature", permission="signed_in", body_limit_bytes=65536, audit_class="none"
)
async def set_faults(request: Request, dial: DialRead) -> DialRead:
    """Replace the dial's settings; none make the sandbox faultless."""
    _admitted(request).dial.set(dial.settings)
    return dial


@router.get("/v1/models", authentication="signature", permission="signed_in", body_limit_bytes=0, audit_class="none")
async def models(request: Request) -> dict[str, Any]:
    """List the two models."""
    _admitted(request)
    return {
        "object": "list",
        "data": [{"id": one, "object": "model", "created": 0, "owned_by": "sandbox"} for one in MODELS],
    }


@router.post(
    "/v1/chat/completions",
    authentication="signature",
    permission="signed_in",
    body_limit_bytes=BODY_LIMIT_BYTES,
    audit_class="none",
)
async def chat_completions(request: Request) -> Response:
    """Answer on the OpenAI wire."""
    body = await request.json()
    with_usage = bool((body.get("stream_options") or {}).get("include_usage"))
    return await _answer(request, body, wire_openai, wire_name="openai", with_usage=with_usage)


@router.post(
    "/v1/messages",
    authentication="signature",
    permission="signed_in",
    body_limit_bytes=BODY_LIMIT_BYTES,
    audit_class="none",
)
async def messages(request: Request) -> Response:
    """Answer on the Anthropic wire."""
    return await _answer(request, await request.json(), wire_anthropic, wire_name="anthropic", with_usage=True)


async def _answer(
    request: Request, body: Mapping[str, Any], wire: Wire, *, wire_name: str, with_usage: bool
) -> Response:
    state = _admitted(request)
    answer_id = f"sandbox-{uuid4().hex}"
    headers = {**LABEL, "x-request-id": answer_id, "request-id": answer_id}
    asked = wire.asked(body)
    setting = _fault_of(request) or state.dial.next_for(asked.model)
    fault = setting.fault if setting else None
    if setting is not None and setting.fault in STATUS_OF_REFUSAL:
        return _refusal(wire, setting, headers)
    if fault == "blackhole":
        return await _never(request)
    completion = complete(asked, fault=fault, seed=state.seed)
    if setting is not None and fault == "slow":
        await asyncio.sleep(setting.delay_s)

    async def bill(sent_pieces: int) -> None:
        prompt, output = completion.billed(sent_pieces)
        await state.bill.add(
            line(answer_id, wire=wire_name, model=asked.model, prompt_tokens=prompt, completion_tokens=output)
        )

    byte_s = setting.delay_s if setting is not None and fault == "trickle" else 0.0
    if body.get("stream") and fault not in ("malformed", "error_500_billed"):
        events = wire.events(answer_id, asked.model, completion, with_usage=with_usage)
        spoiled = spoiled_stream(fault, events, error=wire.error_event(529, "fault"))
        stream = _stream(spoiled, completion, bill, token_latency_s=state.token_latency_s, byte_s=byte_s)
        return BreakableResponse(stream, media_type="text/event-stream", headers=headers)
    await asyncio.sleep(state.token_latency_s * len(completion.pieces))
    await bill(len(completion.pieces))
    if fault == "error_500_billed":
        return JSONResponse(wire.error(500, "the work was done, the answer was lost"), status_code=500, headers=headers)
    text = '{"choices": [' if fault == "malformed" else json.dumps(wire.answer(answer_id, asked.model, completion))
    return BreakableResponse(
        _slowly(spoiled_text(fault, text), byte_s=byte_s),
        media_type="application/json",
        headers=headers | {"content-length": str(len(text.encode()))},
    )


def _refusal(wire: Wire, setting: DialSetting, headers: Mapping[str, str]) -> Response:
    status = STATUS_OF_REFUSAL[setting.fault]
    retry = {"retry-after": f"{setting.retry_after_s:g}"} if setting.fault == "rate_limit" else {}
    said = wire.error(status, TOO_LONG if setting.fault == "context_length" else f"fault {setting.fault}")
    return JSONResponse(said, status_code=status, headers={**headers, **retry})


async def _never(request: Request) -> Response:
    """Answer nothing for as long as the caller stays."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    return Response()


async def _stream(
    events: Iterable[Event], completion: Completion, bill: Any, *, token_latency_s: float, byte_s: float
) -> AsyncGenerator[str]:
    """Send the events at the pace of the tokens; what was sent is billed, before the end, also when it is cut off."""
    sent = 0
    is_billed = False
    try:
        for event, is_token in events:
            if is_token:
                sent += 1
                await asyncio.sleep(token_latency_s)
            elif sent == len(completion.pieces) and not is_billed:
                is_billed = True
                await bill(sent)
            async for part in _slowly([event], byte_s=byte_s):
                yield part
    finally:
        if not is_billed:
            await asyncio.shield(bill(sent))


async def _slowly(texts: Iterable[str], *, byte_s: float) -> AsyncGenerator[str]:
    """Yield the texts as they are, or a character at a time."""
    for text in texts:
        if not byte_s:
            yield text
            continue
        for character in text:
            await asyncio.sleep(byte_s)
            yield character


def _fault_of(request: Request) -> DialSetting | None:
    name = request.headers.get(FAULT_HEADER)
    if name is None:
        return None
    if name not in FAULTS:
        raise Invalid(f"the fault dial knows {', '.join(FAULTS)}", field=FAULT_HEADER)
    return DialSetting(fault=name)


def _admitted(request: Request) -> SandboxState:
    """Return the state for a caller with the sandbox's token. Raises `NotAuthenticated`."""
    state: SandboxState = request.state.sandbox
    headers = request.headers
    presented = presented_credential(headers.get("authorization"), x_api_key=headers.get("x-api-key"))
    if not hmac.compare_digest(presented.encode(), state.token.encode()):
        raise NotAuthenticated("the sandbox's token is in the file sandbox_token of the secrets folder")
    return state
