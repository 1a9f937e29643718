"""A stored decision replays to the same result, bit for bit; what `choose` reads and is not stored is noticed."""

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from itertools import chain
from typing import Any

import orjson
import pytest
from hypothesis import Phase, given, seed, settings

from auterity_dagster.errors import AuterityError
from auterity_dagster.relaycore.catalog import CatalogSnapshot
from auterity_dagster.relaycore.chat import ChatRequest
from auterity_dagster.relaycore.decision_record import (
    catalog_document,
    compact,
    inputs_document,
    restored,
    told,
    told_again,
    with_digest,
)
from auterity_dagster.relaycore.route import Route
from auterity_dagster.relaycore.steering import choose
from auterity_dagster.relaycore.steering_file import read_policy
from auterity_dagster.relaycore.steering_policy import SteeringPolicy
from tests.fakes.steering_inputs import decisions, outcome

Made = tuple[SteeringPolicy, ChatRequest, CatalogSnapshot]


def stored(made: Made) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return both documents as they come back from storage."""
    policy, request, snapshot = made
    documents = (inputs_document(policy, request, snapshot), catalog_document(snapshot))
    return orjson.loads(orjson.dumps(documents[0])), orjson.loads(orjson.dumps(documents[1]))


def replays(made: Made, inputs: dict[str, Any], catalog: dict[str, Any], policy: SteeringPolicy) -> bool:
    """True if the documents give what the decision gave."""
    return outcome(policy, *restored(inputs, catalog)) == outcome(*made)


@cache
def drawn(number: int) -> list[Made]:
    """The hundred decisions of one seed: drawn when they are wanted, and once for all who look."""
    found: list[Made] = []

    @seed(number)
    @settings(max_examples=100, phases=[Phase.generate], database=None)
    @given(decisions())
    def collect(made: Made) -> None:
        found.append(made)

    collect()
    return found


def many() -> Iterator[Made]:
    """Decisions that between them use every part of a choice. The rarest part is at work in one of a hundred."""
    return chain.from_iterable(map(drawn, range(30)))


@settings(max_examples=100)
@given(decisions())
def test_a_stored_decision_replays_to_the_same_result(made: Made) -> None:
    assert replays(made, *stored(made), read_policy(made[0].text, source="stored"))


@settings(max_examples=50)
@given(decisions())
def test_every_fact_of_request_and_snapshot_comes_back(made: Made) -> None:
    _, request, snapshot = made

    request_again, snapshot_again = restored(*stored(made))

    known = set(snapshot.budgets)
    assert request_again == request
    assert replace(snapshot_again, budgets=tuple(one for one in snapshot.budgets if one in known)) == snapshot
    assert set(snapshot_again.budgets) == known


@pytest.mark.parametrize(
    "omitted",
    [
        *[("inputs", part) for part in ("breaker_open", "budgets", "latency", "failed_share", "load", "warm")],
        *[("inputs", part) for part in ("output_tokens", "predictions")],
        *[("catalog", part) for part in ("prices", "quality", "unavailable")],
        *[("request", part) for part in ("task", "max_tokens", "is_stream", "has_tools", "quality_min", "subject")],
        *[("request", part) for part in ("max_cost_nusd", "received_at", "language", "metadata", "pii")],
        ("request", "prefix_tokens"),
    ],
)
def test_a_record_that_omits_something_is_caught(omitted: tuple[str, str]) -> None:
    document, part = omitted
    plain = {"task": None, "max_tokens": None, "is_stream": False}

    def is_caught(made: Made) -> bool:
        inputs, catalog = stored(made)
        if document == "request":
            inputs["request"].pop(part, None)
            inputs["request"] |= {part: plain[part]} if part in plain else {}
        else:
            holder = inputs if document == "inputs" else catalog
            holder[part] = type(holder[part])()
        return not replays(made, inputs, catalog, made[0])

    assert any(is_caught(made) for made in many())


@settings(max_examples=50)
@given(decisions())
def test_the_shared_document_has_one_digest_and_live_facts_do_not_change_it(made: Made) -> None:
    _, _, snapshot = made

    digest = with_digest(snapshot).digest

    assert with_digest(replace(snapshot, breaker_open=frozenset(), budgets=())).digest == digest
    assert with_digest(replace(snapshot, unavailable={"d0": "another reason"})).digest != digest


@settings(max_examples=50)
@given(decisions())
def test_what_is_stored_names_its_columns_once_and_reads_back_as_it_was_told(made: Made) -> None:
    try:
        chosen = choose(*made)
    except AuterityError as refused:
        chosen = refused
    said, kept = orjson.dumps(told(chosen)), orjson.dumps(compact(chosen))

    assert told_again(orjson.loads(kept)) == orjson.loads(said)
    assert kept.count(b'"quality_lower_bound"') <= 1
    assert told_again(orjson.loads(said)) == orjson.loads(said), "one that was stored before reads as it is"


@settings(max_examples=50)
@given(decisions())
def test_what_is_told_is_plain_json_and_names_every_deployment_that_was_looked_at(made: Made) -> None:
    route = outcome(*made)
    if not isinstance(route, Route):
        return

    said = orjson.loads(orjson.dumps(told(route)))

    assert [one["deployment_id"] for one in said["candidates"]] == [one.deployment_id for one in route.considered]
    assert said["route"][0]["deployment"] == route.steps[0].deployment.id


@settings(max_examples=50)
@given(decisions())
def test_labels_that_no_rule_asks_about_are_not_stored(made: Made) -> None:
    policy, request, snapshot = made
    labelled = replace(request, metadata={**request.metadata, "customer": "Jane Doe"})

    inputs, _ = stored((policy, labelled, snapshot))

    assert "Jane Doe" not in orjson.dumps(inputs).decode()
