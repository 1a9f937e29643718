"""What a request asks, as texts that two answers can be compared by."""

import json
from typing import Any

import pytest

from auterity_dagster.relaycore.said import asked_in

USER = {"role": "user", "content": "Is it here?"}


@pytest.mark.parametrize(
    ("body", "roles"),
    [
        ({"messages": [{"role": "system", "content": "s"}, USER]}, ["system", "user"]),
        ({"system": "s", "messages": [USER]}, ["system", "user"]),
        ({"system": [{"type": "text", "text": "s"}], "messages": [USER]}, ["system", "user"]),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]},
            ["user"],
        ),
    ],
    ids=["openai", "anthropic", "anthropic parts", "openai parts"],
)
def test_both_wires_give_roles_and_texts(body: dict[str, Any], roles: list[str]) -> None:
    asked = json.loads(asked_in(body) or b"")

    assert [one["role"] for one in asked] == roles
    assert asked[-1]["content"] in ("Is it here?", "ab")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"input": "an embedding"},
        {"messages": []},
        {"messages": [USER], "tools": [{"type": "function"}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
        {"messages": [{"role": "assistant", "content": None}]},
        {"messages": [{"role": "user", "content": []}]},
    ],
    ids=["nothing", "embedding", "no messages", "tools", "picture", "no text", "no parts"],
)
def test_what_is_more_than_texts_is_not_compared(body: dict[str, Any]) -> None:
    assert asked_in(body) is None
