"""The sandbox provider: both wires through the official SDKs, the fault dial, and a bill that a crash cannot lose."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import anthropic
import httpx
import openai
import pytest

from auterity_dagster.facts import sales_facts, service_facts, vehicle_fact
from auterity_dagster.money import nano_usd
from auterity_dagster.prompt import load_prompts
from auterity_dagster.relaycore.price_list import load_prices
from auterity_dagster.serving.sandbox import tokenizer
from auterity_dagster.serving.sandbox.app import create_app
from auterity_dagster.serving.sandbox.bill import RATES, Bill, line
from auterity_dagster.serving.sandbox.replies import Prompt, reply
from auterity_dagster.serving.sandbox.verdicts import answer_for_schema, better_answer
from tests.fakes.served import served

TOKEN = "sandbox-token-for-tests"
ROOT = Path(__file__).parents[2]
PROMPTS = load_prompts(ROOT / "config" / "prompts")
FACTS = sales_facts(
    [
        vehicle_fact(
            stock_number="H26110",
            year=2026,
            make="Honda",
            vehicle_model="CR-V",
            trim="EX",
            condition="new",
            availability="available",
            price_nusd=nano_usd("36310"),
        )
    ],
    appointment_times=("Saturday 10:00", "Saturday 14:00"),
)


def lead(question: str = "Is the CR-V still there?") -> Prompt:
    values = {"dealership": "Harbor Motors", "facts": FACTS, "customer": "Dana", "question": question}
    return Prompt(*PROMPTS["lead_reply"].render(values))


@pytest.fixture
async def sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    (tmp_path / "sandbox_token").write_text(TOKEN)
    (tmp_path / "sandbox_token").chmod(0o600)
    monkeypatch.setenv("AUTERITY_SECRETS_DIR", str(tmp_path))
    monkeypatch.setenv("AUTERITY_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("AUTERITY_SANDBOX_TOKEN_LATENCY_MS", "0")
    async with served(create_app()) as url:
        yield url


def openai_client(url: str) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=TOKEN, max_retries=0)


def messages(prompt: Prompt) -> list[dict[str, str]]:
    return [{"role": "system", "content": prompt.system}, {"role": "user", "content": prompt.user}]


async def bill_of(url: str) -> dict[str, int]:
    async with httpx.AsyncClient(headers={"authorization": f"Bearer {TOKEN}"}) as client:
        return (await client.get(f"{url}/bill")).json()


async def test_the_openai_sdk_gets_an_answer_and_the_bill_says_what_its_usage_says(sandbox: str) -> None:
    async with openai_client(sandbox) as client:
        answer = await client.chat.completions.create(model="sandbox-large", messages=messages(lead()))  # type: ignore[arg-type]

    assert "H26110" in (answer.choices[0].message.content or "")
    assert answer.usage is not None
    expected = answer.usage.prompt_tokens * 4_000 + answer.usage.completion_tokens * 20_000
    assert (await bill_of(sandbox))["total_nusd"] == expected


async def test_the_openai_sdk_gets_the_same_answer_as_a_stream(sandbox: str) -> None:
    async with openai_client(sandbox) as client:
        whole = await client.chat.completions.create(model="sandbox-small", messages=messages(lead()))  # type: ignore[arg-type]
        stream = await client.chat.completions.create(
            model="sandbox-small",
            messages=messages(lead()),  # type: ignore[arg-type]
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = [chunk async for chunk in stream]

    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage == whole.usage


async def test_the_anthropic_sdk_gets_the_same_answer_on_its_wire_and_as_a_stream(sandbox: str) -> None:
    prompt = lead()
    async with anthropic.AsyncAnthropic(base_url=sandbox, api_key=TOKEN, max_retries=0) as client:
        asked = {"model": "sandbox-large", "max_tokens": 200, "system": prompt.system}
        whole = await client.messages.create(**asked, messages=[{"role": "user", "content": prompt.user}])  # type: ignore[arg-type]
        async with client.messages.stream(**asked, messages=[{"role": "user", "content": prompt.user}]) as stream:  # type: ignore[arg-type]
            streamed = await stream.get_final_message()

    assert streamed.content[0].text == whole.content[0].text  # type: ignore[union-attr]
    assert (streamed.usage.input_tokens, streamed.usage.output_tokens) == (
        whole.usage.input_tokens,
        whole.usage.output_tokens,
    )


async def test_a_stranger_is_refused_everywhere_but_at_the_health_probe(sandbox: str) -> None:
    async with httpx.AsyncClient(base_url=sandbox) as client:
        statuses = [(await client.get(path)).status_code for path in ("/healthz", "/bill", "/v1/models")]
        wrong = await client.post("/v1/chat/completions", json={}, headers={"authorization": "Bearer nonsense"})

    assert statuses == [200, 401, 401]
    assert wrong.status_code == 401


@pytest.mark.parametrize(
    ("fault", "status"), [("refuse", 503), ("rate_limit", 429), ("error_500", 500), ("unauthorized", 401)]
)
async def test_a_refusal_is_not_billed(sandbox: str, fault: str, status: int) -> None:
    async with httpx.AsyncClient(base_url=sandbox, headers={"authorization": f"Bearer {TOKEN}"}) as client:
        await client.post("/control/faults", json={"settings": [{"fault": fault, "times": 1}]})
        body = {"model": "sandbox-small", "messages": messages(lead())}
        failed = await client.post("/v1/chat/completions", json=body)
        billed = (await client.get("/bill")).json()["total_nusd"]
        healed = await client.post("/v1/chat/completions", json=body)

    assert (failed.status_code, billed, healed.status_code) == (status, 0, 200)


async def test_a_cut_stream_is_billed_for_what_was_sent(sandbox: str) -> None:
    body = {"model": "sandbox-small", "messages": messages(lead()), "stream": True}
    headers = {"authorization": f"Bearer {TOKEN}", "x-sandbox-fault": "cut_stream"}
    async with httpx.AsyncClient(base_url=sandbox, headers=headers) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.post("/v1/chat/completions", json=body)

    assert (await bill_of(sandbox))["total_nusd"] > 0


async def test_a_share_of_faults_is_the_same_in_every_run(sandbox: str) -> None:
    async def outcomes(client: httpx.AsyncClient) -> list[int]:
        await client.post("/control/faults", json={"settings": [{"fault": "error_500", "share": 0.4}]})
        body = {"model": "sandbox-small", "messages": messages(lead())}
        return [(await client.post("/v1/chat/completions", json=body)).status_code for _ in range(20)]

    async with httpx.AsyncClient(base_url=sandbox, headers={"authorization": f"Bearer {TOKEN}"}) as client:
        first, second = await outcomes(client), await outcomes(client)

    assert first == second
    assert {200, 500} == set(first)


async def test_the_bill_outlives_its_process(tmp_path: Path) -> None:
    bill = Bill(tmp_path / "bill.jsonl")
    await bill.add(line("a", wire="openai", model="sandbox-large", prompt_tokens=1, completion_tokens=1))
    before = bill.total_nusd
    bill.close()

    again = Bill(tmp_path / "bill.jsonl")
    total, text = again.total_nusd, (tmp_path / "bill.jsonl").read_text()
    again.close()

    assert before == total == 24_000
    assert json.loads(text)["completion_tokens"] == 1


def test_the_sandboxs_own_prices_are_those_of_the_price_list() -> None:
    listed = load_prices(ROOT / "config" / "prices.yaml")

    for model, rates in RATES.items():
        [entry] = listed.prices[model.replace("sandbox-", "sandbox/")]
        [tier] = entry.tiers
        assert (tier.input, tier.output) == (rates.input, rates.output)
        if model != "sandbox-embed":
            assert (tier.cache_read, tier.cache_write_5m) == (rates.cache_read, rates.cache_write_5m)
            assert tier.cache_write_1h == rates.cache_write_1h


@pytest.mark.parametrize(
    "text", ["", "Hi", "a" * 999, "naïve café — “quotes” 🚗🚙", "日本語のテキスト", "1,2;3.4!\n\t x"]
)
def test_tokens_never_exceed_bytes_and_pieces_make_up_the_text(text: str) -> None:
    assert tokenizer.count(text) <= len(text.encode())
    assert "".join(tokenizer.pieces(text)) == text
    assert len(tokenizer.pieces(text)) <= max(tokenizer.count(text), 1)


def test_the_careful_model_states_only_facts() -> None:
    answer = reply(lead(), model="sandbox-large", seed=0)

    assert "2026 Honda CR-V EX (stock H26110)" in answer
    assert "$36,310" in answer
    assert "Saturday 10:00 or Saturday 14:00" in answer


def test_a_reminder_names_vehicle_service_and_both_times() -> None:
    facts = service_facts(
        vehicle="2021 Toyota RAV4", due="30,000 mile service", times=("Tuesday 08:30", "Thursday 13:00")
    )
    values = {"dealership": "Harbor Motors", "facts": facts, "customer": "Lee"}

    answer = reply(Prompt(*PROMPTS["service_reminder"].render(values)), model="sandbox-large", seed=0)

    assert all(
        part in answer for part in ("2021 Toyota RAV4", "30,000 mile service", "Tuesday 08:30", "Thursday 13:00")
    )


def test_facts_of_any_other_prompt_are_listed_and_a_text_states_nothing_to_a_program() -> None:
    vehicle = {"vehicle": "2003 Honda Accord", "style": "plain", "facts": "- sunroof\n- heated seats"}
    read = {"fields": "- budget, number: the most to spend\n- when, text: when", "text": "My budget is 25k"}

    described = reply(Prompt(*PROMPTS["vehicle_description"].render(vehicle)), model="sandbox-large", seed=0)
    answer = json.loads(reply(Prompt(*PROMPTS["read_fields"].render(read)), model="sandbox-large", seed=0))

    assert described == "sunroof; heated seats"
    assert answer == {"fields": {"budget": None, "when": None}, "quotes": {"budget": None, "when": None}}


def test_triage_is_one_json_object_and_takes_brakes_seriously() -> None:
    values = {"dealership": "Harbor Motors", "question": "The brake pedal goes to the floor, nothing happens"}

    answer = json.loads(reply(Prompt(*PROMPTS["service_triage"].render(values)), model="sandbox-large", seed=0))

    assert answer == {"urgency": "stop_driving", "department": "service"}


def test_the_careless_model_differs_on_some_questions_and_always_on_the_same_ones() -> None:
    questions = [lead(f"Question {number}: is it still there?") for number in range(200)]

    def differing() -> list[int]:
        return [
            number
            for number, prompt in enumerate(questions)
            if reply(prompt, model="sandbox-small", seed=0) != reply(prompt, model="sandbox-large", seed=0)
        ]

    assert differing() == differing()
    assert 40 < len(differing()) < 110


def test_a_judge_prefers_the_answer_that_keeps_to_the_facts() -> None:
    good, bad = reply(lead(), model="sandbox-large", seed=0), "Hi, it is yours for $9,999, guaranteed!"
    text = f"{lead().user}\n\nANSWER A\n{bad}\n\nANSWER B\n{good}\n"
    schema = {
        "type": "object",
        "properties": {"reason": {"type": "string"}, "winner": {"type": "string", "enum": ["A", "B", "tie"]}},
    }

    assert better_answer(text) == "B"
    assert answer_for_schema(schema, text)["winner"] == "B"
