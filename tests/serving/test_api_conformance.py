"""The API keeps to its OpenAPI document, whatever is sent; and the document shows how to call it."""

import asyncio
from typing import Any

import pytest
from fastapi import FastAPI
from jsonschema_rs import Draft202012Validator

from auterity_dagster.serving.api.app import build_app
from auterity_dagster.serving.api.examples import EXAMPLES
from auterity_dagster.serving.declared_router import DeclaredRouter
from auterity_dagster.serving.openapi_document import install_openapi
from auterity_dagster.settings import ApiSettings
from tests.fakes.served import served
from tests.serving.conforming import surprises
from tests.serving.conftest import Api


@pytest.mark.slow
async def test_generated_requests_end_in_answers_that_the_document_lists(api: Api, api_settings: ApiSettings) -> None:
    token = api.state.access_tokens.issue(api.owner_id, organization_id=api.organization_id, epoch=0)
    headers = {"authorization": f"Bearer {token}"}

    async with served(build_app(api_settings, clock=api.clock)) as url:
        found = await asyncio.to_thread(surprises, url, headers=headers, examples=12)

    assert found == []


async def test_a_route_that_breaks_and_one_that_answers_what_it_does_not_list_are_found() -> None:
    found = {}
    async with served(careless_app()) as url:
        for surprise in await asyncio.to_thread(surprises, url, headers={}, examples=3):
            found[surprise.operation] = surprise.status

    assert found == {"GET /broken": 500, "GET /teapot": 418}


def test_every_body_has_an_example_that_its_schema_accepts(api: Api) -> None:
    document = api.app.openapi()
    for name, schema in bodies(document).items():
        validator = Draft202012Validator({**schema, "components": document["components"]})

        assert schema.get("examples"), f"{name} has no example: add one to serving/api/examples.py"
        assert [error.message for example in schema["examples"] for error in validator.iter_errors(example)] == []


def test_every_example_is_of_a_body_that_there_is(api: Api) -> None:
    assert EXAMPLES.keys() <= api.app.openapi()["components"]["schemas"].keys()


def test_every_operation_lists_its_errors_as_problems(api: Api) -> None:
    for path, operations in api.app.openapi()["paths"].items():
        for method, operation in operations.items():
            errors = {status: one for status, one in operation["responses"].items() if status >= "400"}

            assert {"503"} <= errors.keys(), (method, path)
            assert all(list(one["content"]) == ["application/problem+json"] for one in errors.values()), (method, path)


def bodies(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The schemas of JSON bodies by name; raw bodies have none."""
    found = {}
    for operations in document["paths"].values():
        for operation in operations.values():
            schema = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
            for one in (schema, *schema.get("anyOf", ())):
                name = one.get("$ref", "").rpartition("/")[2]
                if name:
                    found[name] = document["components"]["schemas"][name]
    return found


def careless_app() -> FastAPI:
    router = DeclaredRouter()
    public: dict[str, Any] = {
        "authentication": "public",
        "permission": "public",
        "body_limit_bytes": 0,
        "audit_class": "none",
    }

    @router.get("/broken", **public)
    async def broken() -> int:
        raise ZeroDivisionError

    @router.get("/teapot", **public, status_code=418, responses={})
    async def teapot() -> int:
        return 1

    @router.get("/fine", **public)
    async def fine() -> int:
        return 1

    app = FastAPI(openapi_url="/openapi.json")
    app.include_router(router)
    install_openapi(app, examples={})
    document = app.openapi()
    document["paths"]["/teapot"]["get"]["responses"].pop("418")
    return app
