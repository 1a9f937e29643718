"""The model server: adapters trained here, answered over the OpenAI wire to whoever holds the server's token."""

import hmac
import json
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, TypedDict
from uuid import uuid4

from fastapi import Depends, FastAPI, Header, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse

from auterity_dagster.decoding.sampling import Sampling
from auterity_dagster.errors import AuterityError, Invalid, NotAuthenticated, NotFound, RateLimited
from auterity_dagster.identity.secret_file import read_secret
from auterity_dagster.serving.model_server.adapters import LoadedModels
from auterity_dagster.serving.model_server.generation import Generator, Written
from auterity_dagster.serving.model_server.wire import ChatBody, LimitBody, completion, error_body, frame
from auterity_dagster.settings import ModelServerSettings
from auterity_dagster.storage.object_store import ObjectStore

BODY_LIMIT = 1 << 20


class State(TypedDict):
    """What the lifespan builds."""

    generator: Generator
    token: str


def authenticated(request: Request, authorization: Annotated[str, Header()] = "") -> None:
    """Let only the holder of the server's token in, and no body that is too large."""
    expected = f"Bearer {request.state.token}"
    if not hmac.compare_digest(authorization.encode(), expected.encode()):
        raise NotAuthenticated("the model server's token is missing or wrong", code="invalid_api_key")
    if int(request.headers.get("content-length", BODY_LIMIT + 1 if request.method == "POST" else 0)) > BODY_LIMIT:
        raise Invalid(
            f"the body is larger than {BODY_LIMIT} bytes or its length is not declared", code="body_too_large"
        )


def create_app(settings: ModelServerSettings | None = None) -> FastAPI:
    """Compose the server; one process, one generation thread."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    configured = settings or ModelServerSettings()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[State]:
        store = ObjectStore(configured.data_dir / "objects")
        generator = Generator(LoadedModels(store), threads=configured.model_server_threads)
        generator.start()
        yield {"generator": generator, "token": read_secret(configured.secrets_folder, "model_server_token")}
        generator.stop()

    app = FastAPI(title="Auterity model server", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.add_exception_handler(AuterityError, _refuse)
    app.add_exception_handler(RequestValidationError, _refuse_body)
    app.get("/healthz")(healthz)
    app.get("/v1/models", dependencies=[Depends(authenticated)])(models)
    app.post("/v1/models/{model}/load", dependencies=[Depends(authenticated)])(load)
    app.post("/v1/limits/{stream}", dependencies=[Depends(authenticated)], response_model=None)(raise_limit)
    app.post("/v1/chat/completions", dependencies=[Depends(authenticated)], response_model=None)(chat)
    return app


async def healthz(request: Request) -> JSONResponse:
    """Say whether the generation thread lives."""
    is_alive = request.state.generator.is_alive
    return JSONResponse({"status": "ok" if is_alive else "ended"}, status_code=200 if is_alive else 503)


async def models(request: Request) -> dict[str, object]:
    """List what is in memory."""
    data = [{"id": name, "object": "model", "owned_by": "auterity"} for name in request.state.generator.models.names]
    return {"object": "list", "data": data}


async def load(model: str, request: Request) -> dict[str, object]:
    """Load a model by writing one token with it, so that the first customer does not wait for it."""
    messages = [{"role": "system", "content": "You are an assistant."}, {"role": "user", "content": "Hello"}]
    ask = request.state.generator.ask(
        model=ChatBody.model_validate({"model": model, "messages": messages}).model,
        messages=messages,
        max_tokens=1,
        sampling=Sampling(),
        stops=(),
        is_stream=False,
    )
    written = [each async for each in ask]
    return {"id": model, "object": "model", "prompt_tokens": written[-1].prompt_tokens}


async def raise_limit(stream: str, body: LimitBody, request: Request) -> Response:
    """Let a stream go on beyond the limit that it was asked with. One that has reached it ends there."""
    request.state.generator.raise_limit(stream, body.max_tokens)
    return Response(status_code=204)


async def chat(
    body: ChatBody, request: Request, x_auterity_stream: Annotated[str | None, Header(max_length=64)] = None
) -> JSONResponse | StreamingResponse:
    """Answer one chat completion; a stream that names itself may be told of more tokens."""
    request_id, created = f"chatcmpl-{uuid4().hex}", int(time.time())
    answers = request.state.generator.ask(
        model=body.model,
        messages=[message.model_dump() for message in body.messages],
        max_tokens=body.limit,
        sampling=body.sampling,
        stops=body.stop,
        is_stream=body.stream,
        stream_id=x_auterity_stream if body.stream else None,
    )
    if body.stream:
        first = await anext(answers)
        frames = _frames(first, answers, body, request_id=request_id, created=created)
        return StreamingResponse(frames, media_type="text/event-stream")
    last = [each async for each in answers][-1]
    return JSONResponse(
        completion(
            request_id=request_id,
            created=created,
            model=body.model,
            text=last.text,
            finish_reason=last.finish_reason or "stop",
            usage=_usage(last),
        )
    )


async def _frames(
    first: Written, rest: AsyncGenerator[Written], body: ChatBody, *, request_id: str, created: int
) -> AsyncGenerator[str]:
    sent, last = "", first
    head = {"request_id": request_id, "created": created, "model": body.model}
    yield _event(frame(**head, delta={"role": "assistant", "content": ""}, finish_reason=None))
    async for written in _chained(first, rest):
        last = written
        # A text may end in half a character until its last byte is there: it is sent when it is whole.
        if written.text.startswith(sent) and not written.text.endswith("\ufffd") and written.text != sent:
            yield _event(frame(**head, delta={"content": written.text[len(sent) :]}, finish_reason=None))
            sent = written.text
    yield _event(frame(**head, delta={}, finish_reason=last.finish_reason or "stop"))
    if body.stream_options.include_usage:
        yield _event({**frame(**head, delta={}, finish_reason=None), "choices": [], "usage": _usage(last)})
    yield "data: [DONE]\n\n"


async def _chained(first: Written, rest: AsyncGenerator[Written]) -> AsyncGenerator[Written]:
    yield first
    if first.finish_reason is None:
        async for written in rest:
            yield written


def _event(data: dict[str, object]) -> str:
    return f"data: {json.dumps(data, ensure_ascii=False, separators=(',', ':'))}\n\n"


def _usage(last: Written) -> dict[str, int]:
    return {
        "prompt_tokens": last.prompt_tokens,
        "completion_tokens": last.completion_tokens,
        "total_tokens": last.prompt_tokens + last.completion_tokens,
    }


async def _refuse(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, AuterityError)
    status = {NotAuthenticated: 401, NotFound: 404, RateLimited: 429, Invalid: 400}.get(type(error), 503)
    return JSONResponse(error_body(error.message, code=error.code), status_code=status)


async def _refuse_body(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"][1:])
    return JSONResponse(error_body(f"{where}: {first['msg']}", code="invalid_request"), status_code=400)
