"""The model server as the deployment sees it: load a model, ask it."""

from collections.abc import Sequence

import httpx
import openai

from auterity_dagster.errors import Unavailable
from auterity_dagster.neuroweaver.example import Message

_TIMEOUT_S = 120.0


class ModelServerClient:
    """One model server. Raises `Unavailable` when it does not answer or refuses."""

    def __init__(self, url: str, token: str) -> None:
        self._http = httpx.Client(base_url=url, headers={"authorization": f"Bearer {token}"}, timeout=_TIMEOUT_S)
        self._client = openai.OpenAI(base_url=f"{url}/v1", api_key=token, timeout=_TIMEOUT_S, max_retries=2)

    def is_up(self) -> bool:
        """Whether the server says that it can answer."""
        try:
            return self._http.get("/healthz", timeout=2.0).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False

    def has_loaded(self, model: str) -> bool:
        """Whether a model is in memory."""
        try:
            response = self._http.get("/v1/models", timeout=5.0)
        except httpx.HTTPError:
            return False
        return response.status_code == httpx.codes.OK and model in {one["id"] for one in response.json()["data"]}

    def load(self, model: str) -> None:
        """Have a model verified and loaded, and one token written with it."""
        try:
            response = self._http.post(f"/v1/models/{model}/load")
        except httpx.HTTPError as error:
            raise Unavailable("the model server does not answer") from error
        if response.status_code != httpx.codes.OK:
            raise Unavailable(f"the model server refused {model}: {response.text[:300]}")

    def answer(self, model: str, messages: Sequence[Message], *, max_tokens: int) -> str:
        """Return the model's greedy answer."""
        try:
            completion = self._client.chat.completions.create(
                model=model,
                messages=[message.model_dump() for message in messages],  # type: ignore[misc]
                max_tokens=max_tokens,
                temperature=0.0,
            )
        except openai.OpenAIError as error:
            raise Unavailable(f"the model server: {error}") from error
        return completion.choices[0].message.content or ""
