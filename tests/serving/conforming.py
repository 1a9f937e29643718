"""Hold a running server to its own OpenAPI document: nothing made from it may end in a 5xx or an unlisted status."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.core.result import Ok
from schemathesis.schemas import APIOperation


@dataclass(frozen=True)
class Surprise:
    """An answer that the document does not allow."""

    operation: str
    status: int
    body: str


def surprises(
    url: str,
    *,
    headers: Mapping[str, str],
    examples: int,
    prepared: Callable[[schemathesis.Case], None] = lambda _case: None,
) -> list[Surprise]:
    """Call every operation of the document at `url`/openapi.json with generated requests; return what surprised.

    `prepared` may change a request before it is sent.
    """
    document = schemathesis.openapi.from_url(f"{url}/openapi.json")
    found: dict[tuple[str, int], Surprise] = {}

    def try_out(operation: APIOperation) -> None:
        allowed = operation.definition.raw["responses"]

        @settings(
            max_examples=examples,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=(HealthCheck.filter_too_much, HealthCheck.too_slow, HealthCheck.data_too_large),
            phases=[Phase.generate],
        )
        @given(case=operation.as_strategy())
        def call(case: schemathesis.Case) -> None:
            prepared(case)
            answer = case.call(headers=dict(headers))
            if answer.status_code >= 500 or str(answer.status_code) not in allowed:
                key = (operation.label, answer.status_code)
                found.setdefault(key, Surprise(*key, answer.text[:500]))

        call()

    for result in document.get_all_operations():
        assert isinstance(result, Ok), result
        try_out(result.ok())
    return list(found.values())
