"""`/v1/embeddings` and `/v1/models` through OpenAI's SDK."""

import openai
import pytest

from tests.fakes.gateway_thread import RunningGateway
from tests.serving.conformance.checkers import check_types
from tests.serving.conformance.conftest import Kind

MODELS = ("text-embedding-3-small", "sandbox-embed")


@pytest.mark.parametrize("model", MODELS)
def test_vectors_are_valid_the_same_each_time_and_paid_for(
    gateway: RunningGateway, openai_sdk: openai.OpenAI, model: str
) -> None:
    raw = openai_sdk.embeddings.with_raw_response.create(model=model, input=["a red car", "a blue car"])
    line = gateway.bill()[-1]
    as_numbers = openai_sdk.embeddings.create(model=model, input="a red car", encoding_format="float")

    answer = raw.parse()
    check_types(answer)
    assert [one.index for one in answer.data] == [0, 1]
    assert answer.data[0].embedding == pytest.approx(as_numbers.data[0].embedding, abs=1e-6)
    assert answer.data[0].embedding != answer.data[1].embedding
    assert answer.usage.prompt_tokens == line["prompt_tokens"]
    assert raw.headers["x-auterity-cost-nusd"] == str(line["cost_nusd"])


def test_dimensions_and_lists_of_tokens_are_taken(openai_sdk: openai.OpenAI) -> None:
    answer = openai_sdk.embeddings.create(model="sandbox-embed", input=[[1, 2, 3], [4]], dimensions=8)

    assert [len(one.embedding) for one in answer.data] == [8, 8]
    assert answer.usage.prompt_tokens == 4


@pytest.mark.parametrize("model", ["auto", "pool/general", "auto/best"])
def test_vectors_are_asked_for_by_name_for_those_of_two_models_cannot_be_compared(
    openai_sdk: openai.OpenAI, model: str
) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        openai_sdk.embeddings.create(model=model, input="a car")

    assert refused.value.param == "model"


def test_a_model_that_talks_gives_no_vectors_and_one_that_gives_vectors_does_not_talk(
    openai_sdk: openai.OpenAI,
) -> None:
    with pytest.raises(openai.BadRequestError) as no_vectors:
        openai_sdk.embeddings.create(model="sandbox-large", input="a car")
    with pytest.raises(openai.BadRequestError) as no_talk:
        openai_sdk.chat.completions.create(model="sandbox-embed", messages=[{"role": "user", "content": "Hello"}])

    assert (no_vectors.value.code, no_talk.value.code) == ("unsupported_parameter", "unsupported_parameter")


def test_models_are_listed_and_found_by_name(openai_sdk: openai.OpenAI, kind: Kind) -> None:
    names = [model.id for model in openai_sdk.models.list()]

    assert {kind.model, "auto", "pool/automotive", *MODELS} <= set(names)
    assert openai_sdk.models.retrieve(kind.model).id == kind.model
    assert openai_sdk.models.retrieve("pool/automotive").owned_by == "auterity"
    with pytest.raises(openai.NotFoundError) as unknown:
        openai_sdk.models.retrieve("gpt-99")
    assert unknown.value.code == "model_not_found"
