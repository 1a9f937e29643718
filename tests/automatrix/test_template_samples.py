"""Every recorded sample of every shipped template through the real engine: path, messages, tasks, approvals."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from auterity_dagster.automatrix.ports import Message, Receipt
from auterity_dagster.automatrix.publication import compile_document
from auterity_dagster.public_http import PublicHttp
from auterity_dagster.resources.sandbox_messenger import SandboxMessenger
from auterity_dagster.storage.database import BlockingDatabase, Database
from tests.conftest import DatabaseUrls, FreshDatabases
from tests.fakes.clock import FakeClock
from tests.fakes.recording_service import recording_service
from tests.fakes.template_outcome import differences
from tests.fakes.template_play import Play
from tests.fakes.template_samples import SAMPLES, SampleModel, SampleService, read_samples
from tests.fakes.workflow_world import CEL, NOON, FakeChat, World, new_dealership, templates

KEYS = sorted(path.stem for path in SAMPLES.glob("*.jsonl"))


@pytest.fixture(scope="module")
def urls(fresh_databases: FreshDatabases) -> Iterator[DatabaseUrls]:
    with fresh_databases.one() as urls:
        yield urls


@pytest.fixture(scope="module")
def one_database(urls: DatabaseUrls) -> Iterator[BlockingDatabase]:
    database = BlockingDatabase(urls.application)
    yield database
    database.close()


@pytest.fixture(scope="module")
def a_service() -> Iterator[SampleService]:
    service = SampleService()
    with recording_service(service):
        yield service


@pytest.fixture
def play(
    request: pytest.FixtureRequest,
    urls: DatabaseUrls,
    one_database: BlockingDatabase,
    a_service: SampleService,
    tmp_path: Path,
) -> Iterator[Play]:
    """The samples of the template that the test names, nothing played yet."""
    clock = FakeClock(NOON)
    samples = read_samples(request.param)
    runner = asyncio.Runner()
    asynchronous = Database(urls.application, pool_size=1)
    play = Play(
        world=World(one_database, clock, http=PublicHttp(private_origins=frozenset({a_service.url}))),
        dealership=new_dealership(urls, one_database, clock),
        key=request.param,
        samples=samples,
        service=a_service,
        executions={},
        runner=runner,
        asynchronous=asynchronous,
    )
    a_service.samples, a_service.asked = samples, []
    play.world.chat = FakeChat(SampleModel(play.executions))
    play.world.messenger = SandboxMessenger(tmp_path, clock)  # type: ignore[assignment]
    yield play
    runner.run(asynchronous.close())
    runner.close()


@pytest.mark.parametrize("play", KEYS, indirect=True)
def test_every_sample_comes_to_what_is_recorded_for_it(play: Play, tmp_path: Path) -> None:
    assert len(play.samples) >= 10

    play.begin()
    play.to_the_end()

    assert play.found() == {sample.name: sample.expected for sample in play.samples}
    assert differences(play.world, play.dealership, tmp_path / "sent.jsonl", play.service) == []
    assert [sample.name for sample in play.samples if sample.then] == [], "what was to happen and did not"


class Forgetful(SandboxMessenger):
    """The broken variant: gives receipts for messages that it does not keep."""

    def send(self, message: Message, key: str) -> Receipt:
        return Receipt(f"sandbox-{key}") if key.endswith(":text-back") else super().send(message, key)


@pytest.mark.parametrize("play", ["missed_call_text_back"], indirect=True)
def test_a_messenger_that_forgets_is_noticed(play: Play, tmp_path: Path) -> None:
    play.world.messenger = Forgetful(tmp_path, play.world.clock)  # type: ignore[assignment]

    play.begin()
    play.to_the_end()

    assert differences(play.world, play.dealership, tmp_path / "sent.jsonl", play.service) == ["messages", "effects"]


@pytest.mark.parametrize("play", ["missed_call_text_back"], indirect=True)
def test_a_template_that_asks_nobody_any_more_is_noticed(play: Play) -> None:
    document = dict(templates()[play.key].document)
    steps = [{name: one[name] for name in one if (one["id"], name) != ("text", "when")} for one in document["steps"]]

    play.begin(compile_document({**document, "steps": steps}, CEL))
    play.to_the_end()

    found = play.found()
    assert [one.name for one in play.samples if found[one.name] != one.expected] == ["nobody approves in time"]
