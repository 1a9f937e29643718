"""The gateway as NeuroWeaver uses it: judges and comparison answers, paid from the organization's judging budget."""

import json
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple
from uuid import UUID

import openai
from openai.types.chat.completion_create_params import ResponseFormat

from auterity_dagster.errors import BudgetExceeded, Invalid, Unavailable
from auterity_dagster.neuroweaver.example import Message
from auterity_dagster.neuroweaver.ports import JudgeAnswer, JudgeQuestion
from auterity_dagster.storage.database import BlockingDatabase
from auterity_dagster.storage.repositories.api_keys import system_key

PURPOSE = "judging"
_TIMEOUT_S = 120.0
_CONCURRENCY = 8


class ComparisonAnswer(NamedTuple):
    """One answer that came over the gateway, with what evaluation needs to know besides its text."""

    text: str
    stop_reason: str
    completion_tokens: int
    latency_ms: float
    deployment: str
    request_id: str
    cost_nusd: int


class JudgingGateway:
    """`neuroweaver.ports.Judge` over RelayCore, with the organization's system key for judging."""

    def __init__(self, database: BlockingDatabase, *, organization_id: UUID, gateway_url: str, pepper: bytes) -> None:
        with database.begin(organization_id) as session:
            key = system_key(session, purpose=PURPOSE).secret(pepper)
        self._client = openai.OpenAI(base_url=f"{gateway_url}/v1", api_key=key, timeout=_TIMEOUT_S, max_retries=3)

    def ask(self, question: JudgeQuestion) -> JudgeAnswer:
        answer = self._complete(
            "auto",
            question.messages,
            task="judging",
            max_tokens=512,
            temperature=question.temperature,
            idempotency_key=question.key,
            answer_schema=json.loads(question.answer_schema),
        )
        return JudgeAnswer(
            text=answer.text, judge=answer.deployment, request_id=answer.request_id, cost_nusd=answer.cost_nusd
        )

    def answers(
        self, deployment: str, prompts: Mapping[str, tuple[str, Sequence[Message]]], *, max_tokens: int
    ) -> Mapping[str, ComparisonAnswer]:
        """Return one deployment's answers to prompts, given as id -> (task, messages); several at a time."""

        def one(prompt: tuple[str, Sequence[Message]]) -> ComparisonAnswer:
            task, messages = prompt
            return self._complete(deployment, messages, task=task, max_tokens=max_tokens, temperature=0.0)

        with ThreadPoolExecutor(_CONCURRENCY) as pool:
            return dict(zip(prompts, pool.map(one, prompts.values()), strict=True))

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _complete(
        self,
        model: str,
        messages: Sequence[Message],
        *,
        task: str,
        max_tokens: int,
        temperature: float,
        idempotency_key: str | None = None,
        answer_schema: Mapping[str, object] | None = None,
    ) -> ComparisonAnswer:
        headers = {"x-auterity-task": task, "x-auterity-purpose": PURPOSE}
        if idempotency_key is not None:
            headers["idempotency-key"] = idempotency_key
        form: ResponseFormat | openai.Omit = openai.omit
        if answer_schema is not None:
            named = {"name": "answer", "schema": dict(answer_schema), "strict": True}
            form = {"type": "json_schema", "json_schema": named}  # pyright: ignore[reportAssignmentType]
        began = time.monotonic()
        try:
            response = self._client.chat.completions.with_raw_response.create(
                model=model,
                messages=[message.model_dump() for message in messages],  # type: ignore[misc]
                max_tokens=max_tokens,
                temperature=temperature,
                response_format=form,
                extra_headers=headers,
            )
            completion = response.parse()
        except openai.APIStatusError as error:
            if error.status_code == 402:
                raise BudgetExceeded(f"the judging budget is spent: {error.message}") from error
            if error.status_code < 500:
                raise Invalid(f"the gateway refused: {error.message}", code="gateway_refused") from error
            raise Unavailable(f"the gateway answered {error.status_code}") from error
        except openai.APIConnectionError as error:
            raise Unavailable("the gateway does not answer") from error
        choice = completion.choices[0]
        return ComparisonAnswer(
            text=choice.message.content or "",
            stop_reason=choice.finish_reason,
            completion_tokens=completion.usage.completion_tokens if completion.usage else 0,
            latency_ms=(time.monotonic() - began) * 1000,
            deployment=response.headers.get("x-auterity-deployment", model),
            request_id=response.headers.get("x-request-id", ""),
            cost_nusd=int(response.headers.get("x-auterity-cost-nusd", "0")),
        )
