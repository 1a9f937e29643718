"""One thread that writes answers: requests for the same model that wait together are answered as one batch."""

import asyncio
import threading
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from queue import Empty, Queue
from typing import Any

import torch
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList

from auterity_dagster.errors import AuterityError, Invalid, RateLimited, Unavailable
from auterity_dagster.serving.model_server.adapters import Loaded, LoadedModels

BATCH_LIMIT = 8
QUEUE_LIMIT = 64


@dataclass(frozen=True, slots=True)
class Written:
    """What has been written so far; `finish_reason` is set on the last one."""

    text: str
    prompt_tokens: int
    completion_tokens: int
    finish_reason: str | None


@dataclass
class Ticket:
    """One waiting request and the way back to it."""

    model: str
    messages: list[dict[str, str]]
    max_tokens: int
    temperature: float
    is_stream: bool
    loop: asyncio.AbstractEventLoop
    answers: asyncio.Queue[Written | AuterityError]
    is_abandoned: threading.Event = field(default_factory=threading.Event)
    prompt_ids: list[int] = field(default_factory=list)

    def tell(self, answer: Written | AuterityError) -> None:
        """Hand an answer to the request's event loop, which may be gone."""
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.answers.put_nowait, answer)


class Generator:
    """Owns the models and the thread that uses them; `ask` is what the wire calls."""

    def __init__(self, models: LoadedModels, *, threads: int) -> None:
        self.models = models
        self._threads = threads
        self._queue: Queue[Ticket | None] = Queue(maxsize=QUEUE_LIMIT)
        self._thread = threading.Thread(target=self._work, name="generation", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread after what it is writing now."""
        self._queue.put(None)
        self._thread.join()

    @property
    def is_alive(self) -> bool:
        """True while the thread can answer."""
        return self._thread.is_alive()

    async def ask(
        self, *, model: str, messages: list[dict[str, str]], max_tokens: int, temperature: float, is_stream: bool
    ) -> AsyncGenerator[Written]:
        """Yield what is written: growing texts for a stream, the whole at once otherwise.

        Raises `RateLimited` when too many wait, and what loading or checking the request raises.
        """
        ticket = Ticket(
            model=model,
            messages=messages,
            max_tokens=max_tokens,
            temperature=temperature,
            is_stream=is_stream,
            loop=asyncio.get_running_loop(),
            answers=asyncio.Queue(),
        )
        if not self.is_alive:
            raise Unavailable("the generation thread ended", code="overloaded")
        if self._queue.qsize() >= QUEUE_LIMIT:
            raise RateLimited("too many requests wait for the model", retry_after_s=2)
        self._queue.put_nowait(ticket)
        try:
            while True:
                answer = await ticket.answers.get()
                if isinstance(answer, AuterityError):
                    raise answer
                yield answer
                if answer.finish_reason is not None:
                    return
        finally:
            ticket.is_abandoned.set()

    def _work(self) -> None:
        torch.set_num_threads(self._threads)
        held: Ticket | None = None
        while True:
            first = held or self._queue.get()
            held = None
            if first is None:
                return
            batch = [first]
            while len(batch) < BATCH_LIMIT:
                try:
                    following = self._queue.get_nowait()
                except Empty:
                    break
                if following is None:
                    self._queue.put(None)
                    break
                if (following.model, following.temperature) != (first.model, first.temperature):
                    held = following
                    break
                batch.append(following)
            self._answer([ticket for ticket in batch if not ticket.is_abandoned.is_set()])

    def _answer(self, batch: list[Ticket]) -> None:
        if not batch:
            return
        try:
            loaded = self.models.load(batch[0].model)
            ready = [ticket for ticket in batch if self._encode(loaded, ticket)]
            if ready:
                self._write(loaded, ready)
        except AuterityError as error:
            for ticket in batch:
                ticket.tell(error)
        except Exception as error:  # noqa: BLE001 - the thread's outer loop: one bad batch must not end the server
            for ticket in batch:
                ticket.tell(Unavailable(f"the model failed: {type(error).__name__}", code="overloaded"))

    def _encode(self, loaded: Loaded, ticket: Ticket) -> bool:
        try:
            ticket.prompt_ids = prompt_ids(loaded, ticket.messages, max_tokens=ticket.max_tokens)
        except Invalid as error:
            ticket.tell(error)
            return False
        return True

    @torch.no_grad()
    def _write(self, loaded: Loaded, batch: list[Ticket]) -> None:
        network = loaded.network
        stop_id, pad_id = loaded.tokenizer.eos_token_id, loaded.tokenizer.pad_token_id
        width = max(len(ticket.prompt_ids) for ticket in batch)
        ids = torch.tensor([[pad_id] * (width - len(each.prompt_ids)) + each.prompt_ids for each in batch])
        mask = torch.tensor([[0] * (width - len(each.prompt_ids)) + [1] * len(each.prompt_ids) for each in batch])
        temperature = batch[0].temperature
        sampling: dict[str, Any] = {"do_sample": False}
        if temperature > 0:
            sampling = {"do_sample": True, "temperature": temperature, "top_k": 0}
        watch = _Watch(loaded, batch, width)
        output = network.generate(
            input_ids=ids,
            attention_mask=mask,
            stopping_criteria=StoppingCriteriaList([watch]),
            generation_config=GenerationConfig(
                max_new_tokens=max(ticket.max_tokens for ticket in batch),
                pad_token_id=pad_id,
                eos_token_id=stop_id,
                **sampling,
            ),
        )
        for ticket, row in zip(batch, output[:, width:].tolist(), strict=True):
            ticket.tell(written(loaded, ticket, row, is_last=True))


class _Watch(StoppingCriteria):
    """Sends growing texts to streams after each token; ends the batch when nobody waits for it any more."""

    def __init__(self, loaded: Loaded, batch: list[Ticket], width: int) -> None:
        self._loaded = loaded
        self._batch = batch
        self._width = width

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        done: list[bool] = []
        for ticket, row in zip(self._batch, input_ids[:, self._width :].tolist(), strict=True):
            is_ended = len(row) >= ticket.max_tokens or ticket.is_abandoned.is_set()
            if ticket.is_stream and not is_ended and self._loaded.tokenizer.eos_token_id not in row:
                ticket.tell(written(self._loaded, ticket, row, is_last=False))
            done.append(is_ended)
        return torch.tensor(done, dtype=torch.bool)


def prompt_ids(loaded: Loaded, messages: list[dict[str, str]], *, max_tokens: int) -> list[int]:
    """Return the ids of a rendered prompt, refusing what the template would silently change.

    Raises `Invalid` without a system message, with a control token in a text, and when the context is too short.
    """
    if messages[0]["role"] != "system":
        raise Invalid("the first message must be `system`: the template would invent one", field="messages")
    special = {*loaded.tokenizer.all_special_tokens, *loaded.tokenizer.get_added_vocab()}  # type: ignore[operator]
    for number, message in enumerate(messages):
        found = next((token for token in sorted(special) if token in message["content"]), None)
        if found is not None:
            raise Invalid(f"message {number} contains the control token {found}", field=f"messages[{number}].content")
    text = loaded.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert isinstance(text, str)
    ids = list(loaded.tokenizer(text, add_special_tokens=False)["input_ids"])
    if len(ids) + max_tokens > loaded.context_tokens:
        raise Invalid(
            f"{len(ids)} prompt tokens and {max_tokens} to write exceed the context of {loaded.context_tokens}",
            code="context_length_exceeded",
            field="messages",
        )
    return ids


def written(loaded: Loaded, ticket: Ticket, row: list[int], *, is_last: bool) -> Written:
    """Return a row of new ids as text; tokens after the stop token or over the request's limit are not counted."""
    stop_id = loaded.tokenizer.eos_token_id
    ids = row[: ticket.max_tokens]
    is_stopped = stop_id in ids
    if is_stopped:
        ids = ids[: ids.index(stop_id) + 1]
    text = str(loaded.tokenizer.decode(ids[:-1] if is_stopped else ids, skip_special_tokens=True))
    reason = None if not is_last else "stop" if is_stopped else "length"
    return Written(text=text, prompt_tokens=len(ticket.prompt_ids), completion_tokens=len(ids), finish_reason=reason)
