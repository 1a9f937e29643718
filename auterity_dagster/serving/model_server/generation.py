"""One thread that writes answers: requests for the same model are written side by side, each as it would be alone."""

import asyncio
import threading
from bisect import bisect_left
from collections import deque
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from functools import partial
from queue import Empty, Queue
from typing import cast

import torch

from auterity_dagster.decoding.batch import Batch, Text
from auterity_dagster.decoding.sampling import Sampling
from auterity_dagster.errors import AuterityError, Invalid, NotFound, RateLimited, Unavailable
from auterity_dagster.serving.model_server.adapters import Loaded, LoadedModels
from auterity_dagster.serving.model_server.stopping import ended_at, surely_said

QUEUE_LIMIT = 64
MOST_TOKENS = 4096
"""No answer is longer."""


@dataclass(frozen=True, slots=True)
class Written:
    """What has been written so far; `finish_reason` is set on the last one."""

    text: str
    prompt_tokens: int
    completion_tokens: int
    finish_reason: str | None


@dataclass(eq=False)
class Ticket:
    """One waiting request and the way back to it."""

    model: str
    messages: list[dict[str, str]]
    max_tokens: int
    sampling: Sampling
    stops: tuple[str, ...]
    is_stream: bool
    stream_id: str | None
    loop: asyncio.AbstractEventLoop
    answers: asyncio.Queue[Written | AuterityError]
    is_abandoned: threading.Event = field(default_factory=threading.Event)
    prompt_ids: list[int] = field(default_factory=list)
    _is_full: bool = False
    _limit: threading.Lock = field(default_factory=threading.Lock)

    def is_full(self, written_tokens: int) -> bool:
        """True from the moment on at which the answer is as long as it may be: no limit is raised after that."""
        with self._limit:
            self._is_full = self._is_full or written_tokens >= self.max_tokens
            return self._is_full

    def raise_limit(self, max_tokens: int) -> None:
        """Let the answer become longer, if it is still being written."""
        with self._limit:
            if not self._is_full:
                self.max_tokens = max(self.max_tokens, max_tokens)

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
        self._held: Ticket | None = None
        self._is_stopping = False
        self._streams: dict[str, Ticket] = {}
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

    def raise_limit(self, stream_id: str, max_tokens: int) -> None:
        """Let a stream write so many tokens in all. Raises `NotFound` for one that has ended."""
        if stream_id not in self._streams:
            raise NotFound("there is no such stream")
        self._streams[stream_id].raise_limit(max_tokens)

    async def ask(
        self,
        *,
        model: str,
        messages: list[dict[str, str]],
        max_tokens: int,
        sampling: Sampling,
        stops: tuple[str, ...],
        is_stream: bool,
        stream_id: str | None = None,
    ) -> AsyncGenerator[Written]:
        """Yield what is written: growing texts for a stream, the whole at once otherwise.

        Under its `stream_id` a stream's limit may be raised while it is written.

        Raises `RateLimited` when too many wait, and what loading or checking the request raises.
        """
        ticket = Ticket(
            model=model,
            messages=messages,
            max_tokens=max_tokens,
            sampling=sampling,
            stops=stops,
            is_stream=is_stream,
            stream_id=stream_id,
            loop=asyncio.get_running_loop(),
            answers=asyncio.Queue(),
        )
        if not self.is_alive:
            raise Unavailable("the generation thread ended", code="overloaded")
        if self._queue.qsize() >= QUEUE_LIMIT:
            raise RateLimited("too many requests wait for the model", retry_after_s=2)
        self._queue.put_nowait(ticket)
        if stream_id is not None:
            self._streams[stream_id] = ticket
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
            if stream_id is not None:
                self._streams.pop(stream_id, None)

    def _work(self) -> None:
        torch.set_num_threads(self._threads)
        while (first := self._taken()) is not None:
            self._answer([first], joins=partial(self._joining, first.model))

    def _taken(self) -> Ticket | None:
        """Wait for the next request; None once the server stops and nothing is left that came before."""
        if self._held is not None:
            first, self._held = self._held, None
            return first
        return None if self._is_stopping else self._queue.get()

    def _joining(self, model: str) -> Ticket | None:
        """Return the next request if it may join the texts of a model now; one for another model waits its turn."""
        if self._held is not None or self._is_stopping:
            return None
        try:
            following = self._queue.get_nowait()
        except Empty:
            return None
        if following is None:
            self._is_stopping = True
        elif following.model != model:
            self._held = following
        else:
            return following
        return None

    def _answer(self, tickets: list[Ticket], *, joins: Callable[[], Ticket | None] = lambda: None) -> None:
        """Write texts of one model until none is left, letting others join between two tokens."""
        under_way: dict[Text, Ticket] = {}
        try:
            loaded = self.models.load(tickets[0].model)
            batch, waiting = Batch(loaded.network), deque(tickets)
            while True:
                while batch.has_room and (ticket := waiting.popleft() if waiting else joins()) is not None:
                    self._begin(loaded, batch, ticket, under_way)
                for text, ticket in list(under_way.items()):
                    if _is_over(loaded, ticket, text.ids):
                        batch.leave(text)
                        del under_way[text]
                        ticket.tell(written(loaded, ticket, text.ids, is_last=True))
                    elif ticket.is_stream:
                        ticket.tell(written(loaded, ticket, text.ids, is_last=False))
                if under_way:
                    batch.write()
                elif not waiting:
                    return
        except AuterityError as error:
            for ticket in {*tickets, *under_way.values()}:
                ticket.tell(error)
        except Exception as error:  # noqa: BLE001 - the thread's outer loop: one bad batch must not end the server
            for ticket in {*tickets, *under_way.values()}:
                ticket.tell(Unavailable(f"the model failed: {type(error).__name__}", code="overloaded"))

    def _begin(self, loaded: Loaded, batch: Batch, ticket: Ticket, under_way: dict[Text, Ticket]) -> None:
        """Read a request's prompt beside what is being written; what is wrong with it concerns nobody else."""
        if ticket.is_abandoned.is_set():
            return
        try:
            ticket.prompt_ids = prompt_ids(loaded, ticket.messages, max_tokens=ticket.max_tokens)
        except Invalid as error:
            ticket.tell(error)
            return
        under_way[batch.join(ticket.prompt_ids, ticket.sampling)] = ticket


def _is_over(loaded: Loaded, ticket: Ticket, ids: list[int]) -> bool:
    """True if a text has ended: by its stop token, by the caller's, by its length, or because nobody waits for it."""
    if ticket.is_abandoned.is_set() or ids[-1] == loaded.tokenizer.eos_token_id or ticket.is_full(len(ids)):
        return True
    if len(ids) >= _most_tokens(loaded, ticket):
        return True
    return bool(ticket.stops) and ended_at(_text(loaded, ids), ticket.stops) is not None


def _most_tokens(loaded: Loaded, ticket: Ticket) -> int:
    """How long the answer can become: what it was granted, or what its limit may be raised to in its context."""
    if ticket.stream_id is None:
        return ticket.max_tokens
    return min(MOST_TOKENS, loaded.context_tokens - len(ticket.prompt_ids))


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
    """Return a row of new ids as text; tokens after the end, or over the request's limit, are not counted.

    What is not the last is without an end that may still become one of the caller's stops.
    """
    stop_id = loaded.tokenizer.eos_token_id
    ids = row[: ticket.max_tokens]
    is_stopped = stop_id in ids
    if is_stopped:
        ids = ids[: ids.index(cast(int, stop_id)) + 1]
    text = _text(loaded, ids[:-1] if is_stopped else ids)
    end = ended_at(text, ticket.stops)
    if end is not None:
        is_stopped = True
        ids = ids[: bisect_left(range(len(ids)), True, key=lambda size: _has_stop(loaded, ids[:size], ticket))]
        text = text[:end]
    elif not is_last:
        text = surely_said(text, ticket.stops)
    reason = None if not is_last else "stop" if is_stopped else "length"
    return Written(text=text, prompt_tokens=len(ticket.prompt_ids), completion_tokens=len(ids), finish_reason=reason)


def _text(loaded: Loaded, ids: list[int]) -> str:
    return str(loaded.tokenizer.decode(ids, skip_special_tokens=True))


def _has_stop(loaded: Loaded, ids: list[int], ticket: Ticket) -> bool:
    return ended_at(_text(loaded, ids), ticket.stops) is not None
