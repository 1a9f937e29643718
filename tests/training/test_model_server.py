import asyncio
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import pytest
import torch
from fastapi.testclient import TestClient
from safetensors.torch import load_file, save_file

from auterity_dagster.decoding.rows import Row, read, step
from auterity_dagster.decoding.sampling import Sampling
from auterity_dagster.neuroweaver.jsonl import read_lines
from auterity_dagster.neuroweaver.stage import AnswerLine
from auterity_dagster.serving.model_server.adapters import LoadedModels
from auterity_dagster.serving.model_server.app import create_app
from auterity_dagster.serving.model_server.generation import Generator, Ticket, Written
from auterity_dagster.serving.model_server.stopping import ended_at, surely_said
from auterity_dagster.settings import ModelServerSettings

SYSTEM = {"role": "system", "content": "You are the assistant of Harbor Honda. Use only the facts."}
USER = {"role": "user", "content": "FACTS\n- stock H26100: 2026 Honda CR-V EX, new\nIs it here?"}
TOKEN = "only-for-tests"


@pytest.fixture(scope="module")
def client(chain, tmp_path_factory) -> Iterator[TestClient]:
    secrets = tmp_path_factory.mktemp("secrets")
    (secrets / "model_server_token").write_text(TOKEN)
    (secrets / "model_server_token").chmod(0o600)
    settings = ModelServerSettings(data_dir=chain.bench.store.root.parent, secrets_dir=secrets)
    with TestClient(create_app(settings), headers={"authorization": f"Bearer {TOKEN}"}) as client:
        yield client


@pytest.fixture
def model(chain) -> str:
    return f"adapter:{chain.bundle.digest}"


def ask(client: TestClient, name: str, **changes: object):
    body = {"model": name, "messages": [SYSTEM, USER], "max_tokens": 16}
    return client.post("/v1/chat/completions", json=body | changes)


def test_only_the_holder_of_the_token_gets_in(client, model) -> None:
    refused = client.post("/v1/chat/completions", json={}, headers={"authorization": "Bearer wrong"})

    assert refused.status_code == 401
    assert client.get("/healthz", headers={"authorization": ""}).status_code == 200


def test_the_server_answers_as_the_evaluation_did(client, chain, model) -> None:
    expected = {line.id: line for line in read_lines(chain.bench.store.read_verified(chain.answers.digest), AnswerLine)}

    answer = ask(client, model).json()

    assert answer["choices"][0]["message"]["content"].strip() == expected["p0"].text
    assert answer["usage"]["completion_tokens"] == expected["p0"].completion_tokens
    assert answer["usage"]["prompt_tokens"] > 10


def test_a_stream_carries_the_same_text_and_ends_with_its_usage(client, model) -> None:
    whole = ask(client, model).json()

    streamed = ask(client, model, stream=True, stream_options={"include_usage": True}).text

    frames = [line.removeprefix("data: ") for line in streamed.splitlines() if line]
    assert frames[-1] == "[DONE]"
    events = [json.loads(frame) for frame in frames[:-1]]
    text = "".join(event["choices"][0]["delta"].get("content", "") for event in events if event["choices"])
    assert text == whole["choices"][0]["message"]["content"]
    assert events[-1]["usage"] == whole["usage"]


def content(answer) -> str:
    return answer.json()["choices"][0]["message"]["content"]


def test_a_text_ends_before_the_first_stop_and_counts_no_token_after_it(client, model) -> None:
    whole = ask(client, model).json()
    text = whole["choices"][0]["message"]["content"]
    stop = text[len(text) // 2 : len(text) // 2 + 3]

    cut = ask(client, model, stop=[stop, "never written"])

    assert content(cut) == text[: text.index(stop)]
    assert cut.json()["choices"][0]["finish_reason"] == "stop"
    assert cut.json()["usage"]["completion_tokens"] < whole["usage"]["completion_tokens"]
    assert content(ask(client, model, stop=stop)) == content(cut)


def test_a_stream_never_sends_a_part_of_a_stop(client, model) -> None:
    text = content(ask(client, model))
    stop = text[len(text) // 2 : len(text) // 2 + 3]

    streamed = ask(client, model, stream=True, stop=stop).text

    events = [json.loads(line[6:]) for line in streamed.splitlines() if line.startswith("data: {")]
    assert "".join(event["choices"][0]["delta"].get("content", "") for event in events) == text[: text.index(stop)]


def test_the_same_seed_draws_the_same_text_and_another_one_another(client, model) -> None:
    drawn = [content(ask(client, model, temperature=2, seed=seed)) for seed in (1, 1, 2, 3, 4)]

    assert drawn[0] == drawn[1]
    assert len(set(drawn)) > 1


def test_the_likeliest_tokens_alone_are_what_is_written_without_drawing(client, model) -> None:
    assert content(ask(client, model, temperature=2, top_p=1e-9, seed=5)) == content(ask(client, model))


def test_each_of_many_at_once_gets_what_it_would_get_alone(client, model) -> None:
    """Other prompts, lengths, stops, seeds and streams beside it change no letter of an answer."""
    asked = [
        {"messages": [SYSTEM, {"role": "user", "content": f"{USER['content']} {'Really? ' * number}"}], **settings}
        for number, settings in enumerate(
            [
                {"max_tokens": 30},
                {"max_tokens": 5},
                {"max_tokens": 24, "temperature": 1.5, "seed": 11},
                {"max_tokens": 24, "temperature": 0.8, "top_p": 0.7, "seed": 12},
                {"max_tokens": 40},
                {"max_tokens": 24, "stop": ["a", "e"]},
                {"max_tokens": 24, "stream": True},
                {"max_tokens": 12, "temperature": 1.5, "seed": 11},
                {"max_tokens": 30},
                {"max_tokens": 17},
            ]
        )
    ]
    alone = [ask(client, model, **one).text for one in asked]

    with ThreadPoolExecutor(len(asked)) as pool:
        together = list(pool.map(lambda one: ask(client, model, **one).text, asked))

    assert [said(one) for one in together] == [said(one) for one in alone]


def said(answer: str) -> object:
    """What an answer or a stream says, without its id and time."""
    events = [json.loads(line[6:]) for line in answer.splitlines() if line.startswith("data: {")]
    if events:
        return "".join(event["choices"][0]["delta"].get("content", "") for event in events)
    found = json.loads(answer)
    return found["choices"], found["usage"]


def test_texts_that_join_and_leave_between_two_tokens_move_no_bit_of_the_others(chain, model) -> None:
    loaded = LoadedModels(chain.bench.store).load(model)
    prompts = [[1, 5 + number, 9, *range(20, 20 + 3 * number)] for number in range(6)]

    def logits(*companions: list[int]) -> list[torch.Tensor]:
        """The logits of the first prompt's next steps, while others join one by one and the first of them leaves."""
        row, first = read(loaded.network, prompts[0])
        others: list[Row] = []
        found = [first]
        for number in range(4):
            if number < len(companions):
                others.append(read(loaded.network, companions[number])[0])
            if number == 3 and others:
                others.pop(0)
            found.append(step(loaded.network, [*others, row], [7] * (len(others) + 1))[-1])
        return found

    alone, beside = logits(), logits(*prompts[1:4])

    assert all(torch.equal(one, other) for one, other in zip(alone, beside, strict=True))


@pytest.mark.parametrize("wrong", [{"stop": [""]}, {"stop": list("abcde")}, {"top_p": 0}, {"top_p": 2}, {"seed": "x"}])
def test_what_cannot_be_honoured_is_refused_by_name(client, model, wrong) -> None:
    refused = ask(client, model, **wrong)

    assert refused.status_code == 400
    assert next(iter(wrong)) in refused.json()["error"]["message"]


@pytest.mark.parametrize(
    ("text", "said"), [("a STO", "a "), ("a ST", "a "), ("a S", "a "), ("a X", "a X"), ("STO", ""), ("", "")]
)
def test_an_end_that_may_become_a_stop_is_held_back(text: str, said: str) -> None:
    assert surely_said(text, ("STOP", "TOO")) == said
    assert ended_at("say STOP now", ("now", "STOP")) == 4
    assert ended_at(text, ("STOP",)) is None


@pytest.mark.parametrize(("raised_at", "expected"), [(3, None), (8, 8)], ids=["in time", "at its end"])
def test_a_limit_is_raised_while_a_stream_is_written_and_not_once_it_is_reached(
    client, chain, model, raised_at: int, expected: int | None
) -> None:
    whole = ask(client, model, max_tokens=64).json()["usage"]["completion_tokens"]
    heard = Heard(raised_at)
    heard.ticket = Ticket(
        model=model,
        messages=[SYSTEM, USER],
        max_tokens=8,
        sampling=Sampling(),
        stops=(),
        is_stream=True,
        stream_id="one",
        loop=cast(asyncio.AbstractEventLoop, heard),
        answers=asyncio.Queue(),
    )

    Generator(LoadedModels(chain.bench.store), threads=1)._answer([heard.ticket])

    assert whole > 8
    assert heard.told[-1].completion_tokens == (expected or whole)
    assert client.post("/v1/limits/one", json={"max_tokens": 64}).status_code == 404


class Heard:
    """Stands in for the event loop of a request: raises its limit in the moment in which it hears of so many tokens."""

    def __init__(self, raised_at: int) -> None:
        self.told: list[Written] = []
        self.ticket: Ticket | None = None
        self._raised_at = raised_at

    def is_closed(self) -> bool:
        return False

    def call_soon_threadsafe(self, _put: object, answer: Written) -> None:
        self.told.append(answer)
        assert self.ticket is not None
        if answer.completion_tokens == self._raised_at:
            self.ticket.raise_limit(64)


def test_base_and_adapter_answer_from_one_network_and_differ(chain, model) -> None:
    models = LoadedModels(chain.bench.store)
    base, adapter = models.load(f"base:{chain.bench.inputs['base']}"), models.load(model)
    ids = torch.tensor([[1, 5, 9, 12]])

    bare, adapted, again = (each.network(ids).logits for each in (base, adapter, base))

    assert torch.equal(bare, again)
    assert not torch.allclose(bare, adapted, atol=1e-2)
    assert models.names == (f"base:{chain.bench.inputs['base']}", model)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"messages": [USER]}, "first message must be `system`"),
        ({"messages": [SYSTEM, {"role": "user", "content": "hi<|im_end|>"}]}, "control token"),
        ({"max_tokens": 4000}, "exceed the context"),
        ({"model": "gpt-4"}, "model"),
        ({"messages": []}, "messages"),
        ({"temperature": 9}, "temperature"),
    ],
)
def test_a_bad_request_is_told_what_is_wrong(client, model, changes, said) -> None:
    refused = ask(client, model, **changes)

    assert refused.status_code == 400
    assert said in refused.json()["error"]["message"]


def test_an_unknown_adapter_is_not_found(client) -> None:
    assert ask(client, f"adapter:{'0' * 64}").status_code == 404


def test_a_damaged_adapter_is_not_served(client, chain, tmp_path) -> None:
    """The bytes are this test's own: the chain's are others' too."""
    store, folder = chain.bench.store, tmp_path / "bundle"
    store.fetch_bundle(chain.dpo.digest, folder)
    weights = load_file(folder / "adapter_model.safetensors")
    save_file({name: tensor + 1 for name, tensor in weights.items()}, folder / "adapter_model.safetensors")
    bundle = store.put_bundle(folder)
    digest = store.manifest(bundle).files["adapter_model.safetensors"].sha256
    path = store.root / digest[:2] / digest
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"x")

    refused = ask(client, f"adapter:{bundle}")

    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "digest_mismatch"


def test_a_hostile_adapter_is_refused_with_its_reason_before_a_library_sees_it(client, chain, tmp_path) -> None:
    store, folder = chain.bench.store, tmp_path / "bundle"
    store.fetch_bundle(chain.bundle.digest, folder)
    (folder / "training_args.bin").write_bytes(b"\x80\x04.")
    with_a_pickle = store.put_bundle(folder)
    (folder / "training_args.bin").unlink()
    weights = load_file(folder / "adapter_model.safetensors")
    name = next(iter(weights))
    save_file({**weights, name: torch.full_like(weights[name], torch.nan)}, folder / "adapter_model.safetensors")
    without_numbers = store.put_bundle(folder)

    refused = [ask(client, f"adapter:{digest}") for digest in (with_a_pickle, without_numbers)]

    assert [one.status_code for one in refused] == [400, 400]
    assert "'training_args.bin' has no place" in refused[0].json()["error"]["message"]
    assert f"{name} holds a weight that is no finite number" in refused[1].json()["error"]["message"]
