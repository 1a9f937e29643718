"""The sandbox provider: an offline stand-in for OpenAI and Anthropic, with a fault dial and a bill of its own.

It is no AI and says so; no money is owed for it. It listens on loopback and admits one token.
"""

import asyncio
import hmac
import json
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol
from uuid import uuid4

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from auterity_dagster.errors import Invalid, NotAuthenticated
from auterity_dagster.identity.secret_file import read_secret
from auterity_dagster.serving.authentication import presented_credential
from auterity_dagster.serving.declared_router import DeclaredRouter, verify_declared
from auterity_dagster.serving.http_errors import install_error_handlers
from auterity_dagster.serving.sandbox import wire_anthropic, wire_openai
from auterity_dagster.serving.sandbox.bill import RATES, Bill, line
from auterity_dagster.serving.sandbox.completion import Completion, complete, prompt_usage
from auterity_dagster.serving.sandbox.embeddings import answer as embeddings_answer
from auterity_dagster.serving.sandbox.embeddings import embed
from auterity_dagster.serving.sandbox.faults import FAULTS, STATUS_OF_REFUSAL, DialSetting, FaultDial
from auterity_dagster.serving.sandbox.limits import Limits, within_limit
from auterity_dagster.serving.sandbox.sending import paced, slowly
from auterity_dagster.serving.sandbox.spoiling import BreakableResponse, Event, spoiled_stream, spoiled_text
from auterity_dagster.serving.sandbox.wire_openai import TOO_LONG
from auterity_dagster.settings import SandboxSettings

FAULT_HEADER = "x-sandbox-fault"
STREAM_HEADER = "x-auterity-stream"
BODY_LIMIT_BYTES = 4 * 1024 * 1024
MALFORMED = '{"choices": ['
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
    limits: Limits = field(default_factory=Limits)


class LimitWrite(BaseModel):
    """How many tokens a stream may produce in all; `is_last`: it will be told of no more."""

    model_config = ConfigDict(extra="forbid")

    max_tokens: int = Field(ge=1)
    is_last: bool


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
    """List the models."""
    _admitted(request)
    return {
        "object": "list",
        "data": [{"id": one, "object": "model", "created": 0, "owned_by": "sandbox"} for one in RATES],
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
    "/v1/limits/{stream}",
    authentication="signature",
    permission="signed_in",
    body_limit_bytes=65536,
    audit_class="none",
    status_code=204,
)
async def raise_limit(request: Request, stream: str, write: LimitWrite) -> None:
    """Tell a stream of more tokens, or that there will be no more."""
    _admitted(request).limits.raise_to(stream, write.max_tokens, is_last=write.is_last)


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


@router.post(
    "/v1/messages/count_tokens",
    authentication="signature",
    permission="signed_in",
    body_limit_bytes=BODY_LIMIT_BYTES,
    audit_class="none",
)
async def count_tokens(request: Request) -> Response:
    """Say what a prompt counts; that is not billed."""
    _admitted(request)
    asked = wire_anthropic.asked_prompt(await request.json())
    return JSONResponse({"input_tokens": prompt_usage(asked).prompt}, headers=LABEL)


@router.post(
    "/v1/embeddings",
    authentication="signature",
    permission="signed_in",
    body_limit_bytes=BODY_LIMIT_BYTES,
    audit_class="none",
)
async def embeddings(request: Request) -> Response:
    """Answer with vectors; only prompts are billed."""
    state, body, answer_id = _admitted(request), await request.json(), f"sandbox-{uuid4().hex}"
    headers, model = {**LABEL, "x-request-id": answer_id}, str(body.get("model"))
    setting = _fault_of(request) or state.dial.next_for(model)
    fault = setting.fault if setting else None
    if setting is not None and setting.fault in STATUS_OF_REFUSAL:
        return _refusal(wire_openai, setting, headers)
    try:
        embedded = embed(body, seed=state.seed)
    except Invalid as error:
        return _invalid(error, wire_openai, headers)
    said = 0 if fault == "usage_zero" else embedded.prompt_tokens
    await state.bill.add(line(answer_id, wire="openai", model=model, prompt_tokens=said, completion_tokens=0))
    if fault == "error_500_billed":
        return _lost(wire_openai, headers)
    if fault == "malformed":
        return Response(MALFORMED, media_type="application/json", headers=headers)
    embedded = replace(embedded, vectors=() if fault == "empty" else embedded.vectors, prompt_tokens=said)
    return JSONResponse(embeddings_answer(model, embedded, with_usage=fault != "usage_absent"), headers=headers)


async def _answer(
    request: Request, body: Mapping[str, Any], wire: Wire, *, wire_name: str, with_usage: bool
) -> Response:
    state = _admitted(request)
    answer_id = f"sandbox-{uuid4().hex}"
    headers = {**LABEL, "x-request-id": answer_id, "request-id": answer_id}
    setting = _fault_of(request) or state.dial.next_for(str(body.get("model")))
    fault = setting.fault if setting else None
    if setting is not None and setting.fault in STATUS_OF_REFUSAL:
        return _refusal(wire, setting, headers)
    if fault == "blackhole":
        return await _never(request)
    try:
        asked = wire.asked(body)
        completion = complete(asked, fault=fault, seed=state.seed)
    except Invalid as error:
        return _invalid(error, wire, headers)
    except (AttributeError, KeyError, TypeError, ValueError):
        return _invalid(Invalid("the request has not the form that this wire wants"), wire, headers)
    if setting is not None and fault == "slow":
        await asyncio.sleep(setting.delay_s)

    async def bill(sent_tokens: int) -> None:
        await bill_for(completion, sent_tokens)

    async def bill_for(completion: Completion, sent_tokens: int) -> None:
        used = completion.billed(sent_tokens)
        billed = line(
            answer_id,
            wire=wire_name,
            model=asked.model,
            prompt_tokens=used.prompt,
            completion_tokens=int(used.completion),
            cache_read_tokens=used.cache_read,
            cache_write_5m_tokens=used.cache_write_5m,
            cache_write_1h_tokens=used.cache_write_1h,
        )
        await state.bill.add(billed)

    def written(max_tokens: int) -> tuple[Completion, Iterator[Event]]:
        whole = complete(replace(asked, max_tokens=max_tokens), fault=None, seed=state.seed)
        return whole, wire.events(answer_id, asked.model, whole, with_usage=with_usage)

    total = completion.output_tokens
    name = request.headers.get(STREAM_HEADER)
    if body.get("stream") and fault is None and name is not None:
        stream = within_limit(
            *(state.limits, name, written, bill_for),
            max_tokens=asked.max_tokens,
            token_latency_s=state.token_latency_s,
        )
        return BreakableResponse(stream, media_type="text/event-stream", headers=headers)
    byte_s = setting.delay_s if setting is not None and fault == "trickle" else 0.0
    if body.get("stream") and fault not in ("malformed", "error_500_billed"):
        events = wire.events(answer_id, asked.model, completion, with_usage=with_usage)
        spoiled = spoiled_stream(fault, events, error=wire.error_event(529, "fault"))
        stream = paced(spoiled, bill, total_tokens=total, token_latency_s=state.token_latency_s, byte_s=byte_s)
        return BreakableResponse(stream, media_type="text/event-stream", headers=headers)
    await asyncio.sleep(state.token_latency_s * total)
    await bill(total)
    if fault == "error_500_billed":
        return _lost(wire, headers)
    text = MALFORMED if fault == "malformed" else json.dumps(wire.answer(answer_id, asked.model, completion))
    return BreakableResponse(
        slowly(spoiled_text(fault, text), byte_s=byte_s),
        media_type="application/json",
        headers=headers | {"content-length": str(len(text.encode()))},
    )


def _refusal(wire: Wire, setting: DialSetting, headers: Mapping[str, str]) -> Response:
    status = STATUS_OF_REFUSAL[setting.fault]
    retry = {"retry-after": f"{setting.retry_after_s:g}"} if setting.fault == "rate_limit" else {}
    said = wire.error(status, TOO_LONG if setting.fault == "context_length" else f"fault {setting.fault}")
    return JSONResponse(said, status_code=status, headers={**headers, **retry})


def _invalid(error: Invalid, wire: Wire, headers: Mapping[str, str]) -> Response:
    status = 404 if error.code == "model_not_found" else 400
    return JSONResponse(wire.error(status, error.message), status_code=status, headers=dict(headers))


def _lost(wire: Wire, headers: Mapping[str, str]) -> Response:
    document = wire.error(500, "the work was done, the answer was lost")
    return JSONResponse(document, status_code=500, headers=dict(headers))


async def _never(request: Request) -> Response:
    """Answer nothing for as long as the caller stays."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    return Response()


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
