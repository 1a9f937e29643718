"""P-9: whatever a provider sends, its caller gets a whole answer or a typed error; nothing crashes, leaks or grows."""

import asyncio
import gc
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from auterity_dagster.serving.relaycore.app import build_app
from auterity_dagster.serving.relaycore.providers import ConfiguredProviders
from tests.chaos.checkers import Verdict
from tests.chaos.ledger_processes import SEED
from tests.chaos.malformed_answers import corpus
from tests.chaos.spoilt_answers import spoilt
from tests.conftest import DatabaseUrls
from tests.fakes.gateway_config import NO_BREAKER, written_config
from tests.fakes.gateway_stack import QUESTION, Stack, running_stack, until
from tests.fakes.raw_provider import SAID, RawProvider, Wire, answering, stream
from tests.serving.fault_cells import STATUS, WIRES, Ended, failed, stream_events

PATHS = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages"}
AT_ONCE = 3
"""So many attempts beyond the first may always be under way."""

TYPED = {"provider_malformed", "upstream_error", "overloaded", "stream_interrupted"}
SWALLOWED_BYTES = 16 << 20
"""A line has 1 MiB; the rest waits in the sockets between."""

LINE_BYTES = 192 << 20
GROWTH_MIB = 128
"""Three whole answers of 16 MiB at once are read as parts, and put together."""


@dataclass(frozen=True)
class Case:
    """A request of one wire, answered on another with these bytes; `has_other`: another deployment is well."""

    caller: Wire
    provider: Wire
    is_streamed: bool
    answer: bytes
    has_other: bool


@dataclass(frozen=True)
class Run:
    """How each case ended, and what was left of it."""

    cases: Sequence[Case]
    ends: Sequence[Ended]
    growth_mib: int
    tasks_left: int
    files_left: int
    swallowed_bytes: int


def malformed_is_contained(run: Run) -> Verdict:
    """Every case ends in an answer that its caller can read or in a documented error; nothing is left behind."""
    reasons: list[str] = []
    codes = Counter(one.code or "answered" for one in run.ends)
    for case, end in zip(run.cases, run.ends, strict=True):
        if end.code is not None and (end.code not in TYPED or STATUS[end.code] != (end.status, end.type)):
            reasons.append(f"{end} for {describe(case)}")
        if case.has_other and end.text != SAID and end.code != "stream_interrupted":
            reasons.append(f"the next deployment did not answer: {end} for {describe(case)}")
    if run.growth_mib > GROWTH_MIB:
        reasons.append(f"memory grew by {run.growth_mib} MiB")
    if run.tasks_left or run.files_left > 0:
        reasons.append(f"{run.tasks_left} tasks and {run.files_left} files were left")
    if run.swallowed_bytes > SWALLOWED_BYTES:
        reasons.append(f"{run.swallowed_bytes >> 20} MiB of one line were taken")
    numbers = {f"ended_{code}": count for code, count in codes.items()}
    return Verdict("P-9", tuple(reasons), numbers | {"growth_mib": run.growth_mib})


def describe(case: Case) -> str:
    how = "stream" if case.is_streamed else "whole"
    return f"{case.caller} asking {case.provider} ({how}): {case.answer[:300]!r}"


async def asked(client: httpx.AsyncClient, number: int, case: Case) -> Ended:
    body = {"model": "auto", "messages": QUESTION, "max_tokens": number, "stream": case.is_streamed}
    answer = await client.post(PATHS[case.caller], json=body, headers={"x-auterity-task": case.provider})
    try:
        return read(case.caller, answer)
    except (AssertionError, AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        return Ended(None, f"unreadable: {error!r} in {answer.text[:500]}")


def read(wire: Wire, answer: httpx.Response) -> Ended:
    """Read an answer as a client does that takes its wire at its word."""
    if answer.status_code != 200:
        return failed(answer.status_code, answer.json(), wire)
    if answer.headers["content-type"] == "application/json":
        body = answer.json()
        if wire == "openai":
            said = body["choices"][0]["message"]
            assert all(isinstance(one["function"]["arguments"], str) for one in said.get("tool_calls") or ())
            return Ended("".join(text(said.get("content"))))
        return Ended("".join(text(block["text"]) for block in body["content"] if block["type"] == "text"))
    listed = stream_events(wire, answer.text)
    errors = [event for event in listed if "error" in event]
    if errors:
        return failed(200, errors[-1], wire)
    if wire == "openai":
        deltas = [choice["delta"] for event in listed for choice in event["choices"][:1]]
        return Ended("".join(text(delta.get("content")) for delta in deltas))
    deltas = [event["delta"] for event in listed if event["type"] == "content_block_delta"]
    return Ended("".join(text(delta["text"]) for delta in deltas if delta["type"] == "text_delta"))


def text(value: object) -> str:
    assert isinstance(value, str | None), f"{value!r} is no text"
    return value or ""


async def run_of(stack: Stack, provider: RawProvider, cases: Sequence[Case]) -> Run:
    """Ask all cases, a few at a time, once the first has warmed everything up."""
    provider.cases = [b"", *(case.answer for case in cases)]
    provider.is_well = {number for number, case in enumerate(cases, 1) if case.has_other}
    process, at_once = psutil.Process(), asyncio.Semaphore(AT_ONCE)
    async with stack.http() as client:

        async def one(number: int, case: Case) -> Ended:
            async with at_once:
                return await asked(client, number, case)

        await one(1, cases[0])
        before, files = memory_mib(process), process.num_fds()
        tasks = len(asyncio.all_tasks())
        ends = await asyncio.gather(*(one(number, case) for number, case in enumerate(cases, 1)))
        peak = max(provider.peak_mib, memory_mib(process))
        await stack.closed_holds(1)

        async def are_gone() -> bool:
            return len(asyncio.all_tasks()) <= tasks + 1

        await until(are_gone)
    return Run(
        cases=cases,
        ends=ends,
        growth_mib=peak - before,
        tasks_left=max(len(asyncio.all_tasks()) - tasks, 0),
        files_left=process.num_fds() - files - 2 * AT_ONCE,
        swallowed_bytes=max(provider.swallowed.values(), default=0),
    )


def memory_mib(process: psutil.Process) -> int:
    gc.collect()
    return process.memory_info().rss >> 20


@asynccontextmanager
async def gateway(
    urls: DatabaseUrls, redis_url: str, folder: Path, provider: RawProvider, **composed: Any
) -> AsyncGenerator[Stack]:
    """A gateway whose providers, on both wires, are the raw one."""
    changes = written_config(folder, breaker=NO_BREAKER, attempts={"per_deployment": 1})
    async with answering(provider) as url:
        changes |= {"sandbox_url": url, "anthropic_base_url": url}
        async with running_stack(urls, redis_url, folder, **changes, **composed) as stack:
            yield stack


def cases() -> list[Case]:
    """Every malformed answer, for callers of either wire in turn; every other time another deployment is well."""
    kinds = product(WIRES, (False, True))
    listed = [(*kind, answer) for kind in kinds for answer in corpus(kind[0], is_streamed=kind[1])]
    return [Case(WIRES[number // 2 % 2], *kind, has_other=number % 2 == 0) for number, kind in enumerate(listed)]


def raw_provider() -> RawProvider:
    return RawProvider((), well_models=frozenset({"sandbox-small"}))


async def test_malformed_answers_end_in_the_next_deployments_or_in_a_typed_error(
    database_urls: DatabaseUrls, redis_url: str, tmp_path: Path
) -> None:
    provider, listed = raw_provider(), cases()
    async with gateway(database_urls, redis_url, tmp_path, provider) as stack:
        run = await run_of(stack, provider, listed)

    assert len(listed) >= 200
    assert [end for end in run.ends if end.code is None and end.text != SAID] == []
    assert malformed_is_contained(run).reasons == ()


AN_ENDLESS_LINE = Case("openai", "openai", True, stream() + b"data: ", has_other=False)


async def endless(urls: DatabaseUrls, redis_url: str, folder: Path, **composed: Any) -> Run:
    provider = raw_provider()
    provider.endless_bytes = {1: LINE_BYTES}
    async with gateway(urls, redis_url, folder, provider, **composed) as stack:
        return await run_of(stack, provider, [AN_ENDLESS_LINE])


async def test_a_line_without_end_is_given_up_early(
    database_urls: DatabaseUrls, redis_url: str, tmp_path: Path
) -> None:
    run = await endless(database_urls, redis_url, tmp_path)

    assert malformed_is_contained(run).reasons == ()
    assert [end.code for end in run.ends] == ["provider_malformed"]


@pytest.mark.control
@pytest.mark.promise("P-9", control=True)
async def test_a_gateway_without_a_cap_on_lines_is_found_out(
    database_urls: DatabaseUrls, redis_url: str, tmp_path: Path
) -> None:
    build = partial(build_app, providers=partial(ConfiguredProviders, line_limit_bytes=1 << 40))

    verdict = malformed_is_contained(await endless(database_urls, redis_url, tmp_path, build=build))

    assert any("of one line were taken" in reason for reason in verdict.reasons)
    assert any("memory grew" in reason for reason in verdict.reasons)


@pytest.mark.control
def test_an_end_that_is_none_is_found() -> None:
    case = replace(AN_ENDLESS_LINE, has_other=True)
    good = Run([case], [Ended(SAID)], 0, 0, 0, 0)

    assert malformed_is_contained(good).is_held
    for end in (
        Ended(None, "unreadable"),
        Ended(None, "internal_error", 503, "overloaded_error"),
        Ended("another text"),
    ):
        assert not malformed_is_contained(replace(good, ends=[end])).is_held
    assert not malformed_is_contained(replace(good, tasks_left=1)).is_held
    assert not malformed_is_contained(replace(good, files_left=1)).is_held


GENERATED = 2_000


@pytest.mark.chaos
@pytest.mark.promise("P-9")
@pytest.mark.timeout(1200)
async def test_generated_answers_are_contained(
    database_urls: DatabaseUrls, redis_url: str, tmp_path: Path, noted: dict[str, int]
) -> None:
    kinds = list(product(WIRES, WIRES, (False, True)))
    drawn: list[Case] = []
    each = GENERATED // len(kinds)
    for caller, provider_wire, is_streamed in kinds:
        drawn += [
            Case(caller, provider_wire, is_streamed, answer, has_other=False)
            for answer in generated(provider_wire, is_streamed=is_streamed, count=each)
        ]
    provider = raw_provider()
    async with gateway(database_urls, redis_url, tmp_path, provider) as stack:
        run = await run_of(stack, provider, drawn)

    verdict = malformed_is_contained(run)
    noted |= {"n": len(drawn), **verdict.numbers}
    assert verdict.reasons == ()


def generated(wire: Wire, *, is_streamed: bool, count: int) -> list[bytes]:
    """Draw answers before they are sent: a generator must not run inside the loop that serves them."""
    found: list[bytes] = []

    @seed(SEED)
    @settings(
        max_examples=2 * count,
        phases=[Phase.generate],
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(spoilt(wire, is_streamed=is_streamed))
    def collect(answer: bytes) -> None:
        found.append(answer)

    collect()
    assert len(found) >= count
    return found[:count]
