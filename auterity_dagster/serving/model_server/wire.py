"""The OpenAI wire of the model server: what a request may hold, and what answers and stream frames look like."""

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from auterity_dagster.decoding.sampling import Sampling
from auterity_dagster.serving.model_server.generation import MOST_TOKENS

MODEL = r"^(base|adapter):[0-9a-f]{64}$"


def _joined(content: object) -> object:
    """A list of text parts is one text; what is in no such part is left for the check to refuse."""
    if not isinstance(content, list):
        return content
    texts = [part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None for part in content]
    return content if None in texts else "".join(map(str, texts))


def _listed(stop: object) -> object:
    """One stop is a list of one, none an empty list."""
    return [] if stop is None else [stop] if isinstance(stop, str) else stop


Stop = Annotated[str, Field(min_length=1, max_length=200)]


class WireMessage(BaseModel):
    """One message; the roles that a chat template knows, and `developer`, which is the system's newer name."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    role: Annotated[
        Literal["system", "user", "assistant"],
        BeforeValidator(lambda role: "system" if role == "developer" else role),
    ]
    content: Annotated[str, BeforeValidator(_joined)] = Field(min_length=1, max_length=32_000)


class StreamOptions(BaseModel):
    """Whether the last frame of a stream carries the usage."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    include_usage: bool = False


class ChatBody(BaseModel):
    """A chat completion request; unknown fields of the wire are ignored, bounds are not."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    model: str = Field(pattern=MODEL)
    messages: tuple[WireMessage, ...] = Field(min_length=1, max_length=64)
    max_tokens: int | None = Field(default=None, ge=1, le=MOST_TOKENS)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=MOST_TOKENS)
    temperature: float = Field(default=0.0, ge=0, le=2)
    top_p: float = Field(default=1.0, gt=0, le=1)
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    stop: Annotated[tuple[Stop, ...], BeforeValidator(_listed)] = Field(default=(), max_length=4)
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()

    @property
    def sampling(self) -> Sampling:
        """How the next token is drawn."""
        return Sampling(self.temperature, self.top_p, self.seed)

    @property
    def limit(self) -> int:
        """How many tokens may be written."""
        return self.max_completion_tokens or self.max_tokens or 256


class LimitBody(BaseModel):
    """How many tokens a stream may write in all; whether it will be told of more does not matter here."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    max_tokens: int = Field(ge=1, le=MOST_TOKENS)


def completion(
    *, request_id: str, created: int, model: str, text: str, finish_reason: str, usage: dict[str, int]
) -> dict[str, object]:
    """Return the JSON answer."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish_reason}
    return {
        "id": request_id,
        "object": "chat.completion",
        "created": created,
        "model": model,
        "choices": [choice],
        "usage": usage,
    }


def frame(
    *, request_id: str, created: int, model: str, delta: dict[str, str], finish_reason: str | None
) -> dict[str, object]:
    """Return one frame of a stream."""
    return {
        "id": request_id,
        "object": "chat.completion.chunk",
        "created": created,
        "model": model,
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}],
    }


def error_body(message: str, *, code: str, kind: str = "invalid_request_error") -> dict[str, object]:
    """Return the wire's error object."""
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}
