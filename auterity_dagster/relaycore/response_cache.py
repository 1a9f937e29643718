"""Which answers may be given again and to whom: exact requests only, no tools, no pictures, nothing about a person."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import orjson
from pydantic import TypeAdapter

from auterity_dagster.relaycore.chat import ChatRequest, ProviderAnswer, StreamFrame, UsageReport
from auterity_dagster.relaycore.personal_data import is_personal
from auterity_dagster.relaycore.pricing import Usage
from auterity_dagster.relaycore.route import Route, Step

FORMAT = 1
"""Raised when `KeptAnswer` changes: what was kept in another form is not found again."""

MAX_TEMPERATURE = 0.3
DEFAULT_TEMPERATURE = 1.0
"""What every provider takes where a chat names none."""

KEPT_BYTES = 1024 * 1024
"""A longer answer is not kept."""

_WITHOUT_MEANING = frozenset(
    {"model", "stream", "stream_options", "metadata", "store", "prompt_cache_key", "service_tier"}
)
"""Fields of a body that do not change what an answer says; `model` and `stream` are read from the request."""


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """An answer as it is kept: where it came from, what it took, and its body or its frames."""

    deployment_id: str
    artefact_digest: str
    usage: Usage
    body: bytes | None = None
    frames: tuple[StreamFrame, ...] = ()

    @property
    def given(self) -> ProviderAnswer:
        """The whole answer, as if a provider had given it."""
        return ProviderAnswer(self.body or b"", UsageReport(self.usage), has_content=True, provider_request_id=None)


_KEPT = TypeAdapter(KeptAnswer)


def packed(kept: KeptAnswer) -> bytes:
    """Return the answer as bytes to keep."""
    return _KEPT.dump_json(kept)


def unpacked(value: bytes) -> KeptAnswer:
    """Return the answer that `packed` made these bytes of."""
    return _KEPT.validate_json(value)


def may_be_kept(request: ChatRequest, body: Mapping[str, object], route: Route) -> bool:
    """True if the rule's cache may answer this call and keep its answer.

    A call with an `Idempotency-Key` has a promise of its own: the same bytes again, and no other call's.
    """
    rule = route.decision.cache
    return (
        rule.mode == "exact"
        and request.cache != "off"
        and request.claim is None
        and not request.has_tools
        and not request.has_images
        and (rule.any_temperature or request.kind == "embedding" or _temperature(body) <= MAX_TEMPERATURE)
        and scope_id(request, route) is not None
        and not is_personal(request, body)
    )


def scope_id(request: ChatRequest, route: Route) -> str | None:
    """Return whose answers these are, or None where the call names no dealership and the rule shares by dealership."""
    caller = request.caller
    ids = {"organization": caller.organization_id, "dealership": caller.dealership_id, "key": caller.key_id}
    found = ids[route.decision.cache.scope]
    return None if found is None else str(found)


def identity(request: ChatRequest, body: Mapping[str, object], route: Route) -> bytes:
    """Return everything that two calls have in common if one's answer may stand for the other's.

    All that bears on the meaning, and on which deployments may answer: the policy with the rules that matched, and
    what the caller tightened. It holds the prompt: keep only a keyed digest of it.
    """
    decision = route.decision
    return orjson.dumps(
        {
            "format": FORMAT,
            "asked": {name: value for name, value in body.items() if name not in _WITHOUT_MEANING},
            "wire": request.wire,
            "kind": request.kind,
            "is_stream": request.is_stream,
            "model": request.model,
            "task": request.task,
            "quality_min": request.quality_min,
            "droppable": request.droppable,
            "untranslatable": request.untranslatable,
            "policy": route.policy_digest,
            "rules": decision.matched,
            "objective": decision.objective,
            "pool": decision.members,
            "scope": [decision.cache.scope, scope_id(request, route)],
        },
        option=orjson.OPT_SORT_KEYS,
    )


def step_of(kept: KeptAnswer, route: Route) -> Step | None:
    """Return the step that would give this answer again, or None: its deployment may not answer now, or is another."""
    return next(
        (
            step
            for step in route.steps
            if (step.deployment.id, step.deployment.artefact_digest) == (kept.deployment_id, kept.artefact_digest)
        ),
        None,
    )


def _temperature(body: Mapping[str, object]) -> float:
    given = body.get("temperature")
    return float(cast(float, given)) if isinstance(given, int | float) else DEFAULT_TEMPERATURE
