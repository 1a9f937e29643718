"""`automatrix.ports.ChatModel` over RelayCore, with the official SDK and the organization's own key."""

import threading
from uuid import UUID

import openai
from openai.types.chat import ChatCompletion

from auterity_dagster.automatrix.ports import ChatCall, ChatFailed, ChatReply
from auterity_dagster.errors import NotFound
from auterity_dagster.storage.database import BlockingDatabase
from auterity_dagster.storage.repositories.api_keys import system_key

PURPOSE = "workflow"
_CODE_OF_STATUS = {
    400: "invalid_input",
    402: "budget_exceeded",
    403: "not_permitted",
    404: "invalid_input",
    409: "overloaded",
    422: "invalid_input",
    429: "rate_limited",
    503: "overloaded",
    504: "timeout",
}


class GatewayChat:
    """Asks the gateway; it retries nothing itself, because the step's policy does."""

    def __init__(self, database: BlockingDatabase, *, gateway_url: str, pepper: bytes) -> None:
        self._database = database
        self._pepper = pepper
        self._keys: dict[UUID, str] = {}
        self._lock = threading.Lock()
        self._client = openai.OpenAI(base_url=f"{gateway_url.rstrip('/')}/v1", api_key="per-call", max_retries=0)

    def complete(self, call: ChatCall) -> ChatReply:
        try:
            raw = self._client.with_options(api_key=self._key(call.organization_id)).chat.completions.with_raw_response
            response = raw.create(
                model=call.model,
                messages=[{"role": "system", "content": call.system}, {"role": "user", "content": call.user}],
                max_tokens=call.max_output_tokens,
                timeout=call.timeout_s,
                extra_headers={
                    "idempotency-key": call.idempotency_key,
                    "x-auterity-task": call.task,
                    "x-auterity-purpose": PURPOSE,
                    "x-auterity-dealership": str(call.dealership_id),
                },
            )
            completion = response.parse()
        except openai.APITimeoutError as error:
            raise ChatFailed("timeout", f"no answer within {call.timeout_s:g} s") from error
        except openai.APIConnectionError as error:
            raise ChatFailed("connection", "the gateway does not answer") from error
        except openai.APIStatusError as error:
            raise _failed(error) from error
        cost = response.headers.get("x-auterity-cost-nusd")
        return _reply(completion, deployment=response.headers.get("x-auterity-deployment"), cost=cost)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _key(self, organization_id: UUID) -> str:
        with self._lock:
            if organization_id not in self._keys:
                try:
                    with self._database.begin(organization_id) as session:
                        self._keys[organization_id] = system_key(session, purpose=PURPOSE).secret(self._pepper)
                except NotFound as error:
                    raise ChatFailed("not_permitted", error.message) from error
            return self._keys[organization_id]


def _reply(completion: ChatCompletion, *, deployment: str | None, cost: str | None) -> ChatReply:
    text = completion.choices[0].message.content if completion.choices else None
    if text is None or completion.usage is None or cost is None or deployment is None:
        raise ChatFailed("invalid_output", "the gateway answered without text, usage, deployment or cost")
    return ChatReply(
        text=text,
        deployment=deployment,
        prompt_tokens=completion.usage.prompt_tokens,
        completion_tokens=completion.usage.completion_tokens,
        cost_nusd=int(cost),
    )


def _failed(error: openai.APIStatusError) -> ChatFailed:
    is_budget = error.code == "budget_exceeded"
    code = "budget_exceeded" if is_budget else _CODE_OF_STATUS.get(error.status_code, "provider_error")
    after = error.response.headers.get("retry-after")
    retry_after_s = float(after) if after is not None and after.isdecimal() else None
    return ChatFailed(code, f"the gateway answered {error.status_code}: {error.message}", retry_after_s=retry_after_s)
