"""The gateway keeps to its OpenAPI document, whatever is sent; and the document's examples are answered."""

import asyncio
import random
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import pytest
import schemathesis

from auterity_dagster.serving.relaycore.app import build_app
from auterity_dagster.serving.relaycore.wire_documents import WIRE_PATHS
from tests.conftest import DatabaseUrls
from tests.fakes.gateway_stack import gateway_settings, running_stack
from tests.serving.conforming import surprises


@pytest.mark.slow
async def test_generated_requests_end_in_answers_that_the_document_lists(
    database_urls: DatabaseUrls, redis_url: str, tmp_path: Path
) -> None:
    async with running_stack(database_urls, redis_url, tmp_path) as stack:
        headers = {"authorization": f"Bearer {stack.key}"}
        found = await asyncio.to_thread(
            surprises, stack.gateway_url, headers=headers, examples=25, prepared=often_for_a_model_that_is_there()
        )

    assert found == []


@pytest.mark.parametrize("path", WIRE_PATHS)
async def test_an_example_of_the_document_is_answered(
    database_urls: DatabaseUrls, redis_url: str, tmp_path: Path, path: str
) -> None:
    schema = WIRE_PATHS[path]["post"]["requestBody"]["content"]["application/json"]["schema"]

    async with running_stack(database_urls, redis_url, tmp_path) as stack, stack.http() as client:
        (example,) = schema["examples"]
        answer = await client.post(path, json=example)

    assert answer.status_code == 200, answer.text


async def test_every_bare_route_is_in_the_document(database_urls: DatabaseUrls, redis_url: str, tmp_path: Path) -> None:
    async with running_stack(database_urls, redis_url, tmp_path) as stack, stack.http() as client:
        document = (await client.get("/openapi.json")).json()

    assert WIRE_PATHS.keys() <= document["paths"].keys()
    assert {"/v1/models", "/v1/route:explain", "/v1/feedback"} <= document["paths"].keys()


def test_a_second_app_has_the_same_document(database_urls: DatabaseUrls, redis_url: str, tmp_path: Path) -> None:
    settings = gateway_settings(database_urls, redis_url, tmp_path, "http://127.0.0.1:9")

    first, second = (deepcopy(build_app(settings).openapi()) for _ in range(2))

    assert "429" in first["paths"]["/v1/messages"]["post"]["responses"]
    assert first == second
    assert "429" not in WIRE_PATHS["/v1/messages"]["post"]["responses"]


def often_for_a_model_that_is_there() -> Callable[[schemathesis.Case], None]:
    """A model's name out of nowhere is not found, and nothing behind that is tried."""
    dice = random.Random(1)

    def prepare(case: schemathesis.Case) -> None:
        if isinstance(case.body, dict) and "model" in case.body and dice.random() < 0.8:
            case.body["model"] = "sandbox-embed" if case.path.endswith("embeddings") else "sandbox-small"

    return prepare
