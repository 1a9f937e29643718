import json
from collections.abc import Iterator

import pytest
import torch
from fastapi.testclient import TestClient

from auterity_dagster.neuroweaver.jsonl import read_lines
from auterity_dagster.neuroweaver.stage import AnswerLine
from auterity_dagster.serving.model_server.adapters import LoadedModels
from auterity_dagster.serving.model_server.app import create_app
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


def test_a_damaged_adapter_is_not_served(client, chain) -> None:
    manifest = chain.bench.store.manifest(chain.dpo.digest)
    digest = manifest.files["adapter_model.safetensors"].sha256
    path = chain.bench.store.root / digest[:2] / digest
    content = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(content[:-1] + b"x")

    refused = ask(client, f"adapter:{chain.dpo.digest}")

    path.write_bytes(content)
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "digest_mismatch"
