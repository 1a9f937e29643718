"""The sandbox provider: an offline stand-in for OpenAI and Anthropic, with a fault dial and a bill of its own.

It is no AI and says so; no money is owed for it. It listens on loopback and admits one token.
"""

import asyncio
import hmac
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any, Protocol
from uuid import uuid4

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict

from auterity_dagster.errors import Invalid, NotAuthenticated
from auterity_dagster.identity.secret_file import read_secret
from auterity_dagster.serving.authentication import presented_credential
from auterity_dagster.serving.declared_router import DeclaredRouter, verify_declared
from auterity_dagster.serving.http_errors import install_error_handlers
from auterity_dagster.serving.sandbox import wire_anthropic, wire_openai
from auterity_dagster.serving.sandbox.bill import MODELS, Bill, line
from auterity_dagster.serving.sandbox.completion import Completion, complete
from auterity_dagster.serving.sandbox.faults import FAULTS, DialSetting, FaultDial
from auterity_dagster.settings import SandboxSettings

FAULT_HEADER = "x-sandbox-fault"
BODY_LIMIT_BYTES = 4 * 1024 * 1024
LABEL = {"x-sandbox": "offline provider; answers follow written rules; no money is owed"}

_REFUSALS = {"refuse": 503, "bad_request": 400, "unauthorized": 401, "rate_limit": 429, "error_500": 500}

router = DeclaredRouter()


class Wire(Protocol):
    """What the two wire modules offer."""

    asked: Any
    answer: Any
    events: Any
    error: Any


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
    if fault in _REFUSALS:
        retry = {"retry-after": "1"} if fault == "rate_limit" else {}
        status = _REFUSALS[fault]
        return JSONResponse(wire.error(status, f"fault {fault}"), status_code=status, headers=headers | retry)
    completion = complete(asked, fault=fault, seed=state.seed)
    if setting is not None and fault == "slow":
        await asyncio.sleep(setting.delay_s)

    async def bill(sent_pieces: int) -> None:
        prompt, output = completion.billed(sent_pieces)
        await state.bill.add(
            line(answer_id, wire=wire_name, model=asked.model, prompt_tokens=prompt, completion_tokens=output)
        )

    if body.get("stream") and fault not in ("malformed", "error_500_billed"):
        events = wire.events(answer_id, asked.model, completion, with_usage=with_usage)
        cut_after = len(completion.pieces) // 2 if fault in ("cut_stream", "reset") else None
        stream = _stream(events, completion, bill, token_latency_s=state.token_latency_s, cut_after=cut_after)
        return _Closing(stream, media_type="text/event-stream", headers=headers)
    await asyncio.sleep(state.token_latency_s * len(completion.pieces))
    await bill(len(completion.pieces))
    if fault == "error_500_billed":
        return JSONResponse(wire.error(500, "the work was done, the answer was lost"), status_code=500, headers=headers)
    if fault == "malformed":
        return Response('{"choices": [', media_type="application/json", headers=headers)
    if fault in ("cut_stream", "reset"):
        return _Closing(_broken_off(), media_type="application/json", headers=headers | {"content-length": "100000"})
    return JSONResponse(wire.answer(answer_id, asked.model, completion), headers=headers)


async def _stream(
    events: Any, completion: Completion, bill: Any, *, token_latency_s: float, cut_after: int | None
) -> AsyncGenerator[str]:
    """Send the events at the pace of the tokens; what was sent is billed, before the end, also when it is cut off."""
    sent = 0
    is_billed = False
    try:
        for event, is_token in events:
            if sent == cut_after:
                raise _CutOff
            if is_token:
                sent += 1
                await asyncio.sleep(token_latency_s)
            elif sent == len(completion.pieces) and not is_billed:
                is_billed = True
                await bill(sent)
            yield event
    finally:
        if not is_billed:
            await asyncio.shield(bill(sent))


async def _broken_off() -> AsyncGenerator[str]:
    yield '{"id": "sandbox'


class _CutOff(Exception):
    """Ends a response in the middle."""


class _Closing(StreamingResponse):
    """A stream whose end without the last chunk makes the server close the connection."""

    async def stream_response(self, send: Any) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        try:
            async for chunk in self.body_iterator:
                data = chunk.encode() if isinstance(chunk, str) else chunk
                await send({"type": "http.response.body", "body": data, "more_body": True})
        except _CutOff:
            return
        if "content-length" not in self.headers:
            await send({"type": "http.response.body", "body": b"", "more_body": False})


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
