"""A decision as it is told and stored; what it was made from reads back bit for bit, so that it can be replayed.

What many requests share (deployments, prices, evidence) is stored once, under its digest, as the catalogue document.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from operator import attrgetter
from typing import Any

import orjson
from pydantic import TypeAdapter

from auterity_dagster.errors import AuterityError
from auterity_dagster.relaycore.catalog import BudgetRoom, CatalogSnapshot, Deployment
from auterity_dagster.relaycore.chat import ChatRequest
from auterity_dagster.relaycore.live import LatencySketch, Live
from auterity_dagster.relaycore.personal_data import DATA_CLASS
from auterity_dagster.relaycore.predicted_quality import QualityPrediction
from auterity_dagster.relaycore.pricing import Price
from auterity_dagster.relaycore.quality import Quality
from auterity_dagster.relaycore.route import Considered, Route
from auterity_dagster.relaycore.steering_policy import SteeringPolicy
from auterity_dagster.relaycore.steering_rules import binding_budgets

FORMAT = 1

_REQUEST = TypeAdapter(ChatRequest)
_DEPLOYMENTS = TypeAdapter(dict[str, Deployment])
_PRICES = TypeAdapter(dict[str, Price])
_COLUMNS = tuple(field.name for field in fields(Considered))
_values = attrgetter(*_COLUMNS)
_ROOM = tuple(field.name for field in fields(BudgetRoom))
_room = attrgetter(*_ROOM)
_BUDGETS = TypeAdapter(tuple[BudgetRoom, ...])
_PREDICTIONS = TypeAdapter(tuple[QualityPrediction, ...])


def told(outcome: Route | AuterityError) -> dict[str, Any]:
    """Return what a choice decided, or what it refused, as `route:explain` says it and as it is stored."""
    if isinstance(outcome, AuterityError):
        return {"route": [], "candidates": [], "refused": {"code": outcome.code, **_safe(outcome.details)}}
    decision = outcome.decision
    return {
        "policy": f"{outcome.policy_name}@{outcome.policy_digest}",
        "policy_version": outcome.policy_version,
        "rule": decision.rule,
        "matched": list(decision.matched),
        "objective": decision.objective,
        "budget_percent": decision.budget_percent,
        "cache": decision.cache.model_dump(mode="json"),
        "explore": decision.exploration and decision.exploration.model_dump(mode="json"),
        "shadow": decision.shadow and decision.shadow.model_dump(mode="json"),
        "route": [
            {
                "deployment": step.deployment.id,
                "model": step.deployment.model,
                "provider": step.deployment.provider,
                "price_digest": step.price.digest,
                "max_tokens": step.max_tokens,
                "may_cost_nusd": step.hold_nusd,
                "is_degraded": step.is_degraded,
                "is_explored": step.is_explored,
            }
            for step in outcome.steps
        ],
        "candidates": list(outcome.considered),
        "quality": {
            "source": "posterior" if outcome.prediction is None else "predictor",
            "predictor": outcome.prediction and outcome.prediction.predictor,
        },
        "propensity": outcome.propensity,
    }


def compact(outcome: Route | AuterityError) -> dict[str, Any]:
    """Return the same as `told` for storage: the names of the candidates' columns stand there once.

    A decision is most of a stored request, and a quarter of it would be these names, again for each candidate.
    """
    said = told(outcome)
    return {**said, "candidates": _table(_COLUMNS, map(_values, said["candidates"]))}


def told_again(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `told` said from what `compact` kept of it."""
    return {**document, "candidates": _rows(document["candidates"])} if document else {}


def _table(columns: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> list[tuple[object, ...]]:
    return [columns, *rows]


def _rows(table: Any) -> list[dict[str, Any]]:
    """Return the rows by name; those that were stored with their names in each stay as they are."""
    if not table or isinstance(table[0], Mapping):
        return table
    columns, *rows = table
    return [dict(zip(columns, row, strict=True)) for row in rows]


def catalog_document(snapshot: CatalogSnapshot) -> dict[str, Any]:
    """Return the part of a snapshot that many requests share."""
    return {
        "format": FORMAT,
        "deployments": _DEPLOYMENTS.dump_python(dict(snapshot.deployments), mode="json"),
        "prices": _PRICES.dump_python(dict(snapshot.prices), mode="json"),
        "unavailable": dict(snapshot.unavailable),
        "quality": sorted([task, digest, one.alpha, one.beta] for (task, digest), one in snapshot.quality.items()),
    }


def with_digest(snapshot: CatalogSnapshot) -> CatalogSnapshot:
    """Return the snapshot with the digest of its shared part."""
    content = orjson.dumps(catalog_document(snapshot), option=orjson.OPT_SORT_KEYS)
    return replace(snapshot, digest=hashlib.sha256(content).hexdigest()[:32])


def inputs_document(policy: SteeringPolicy, request: ChatRequest, snapshot: CatalogSnapshot) -> dict[str, Any]:
    """Return what `choose` read beside policy and catalogue, which are named by their digests.

    Of a caller's labels only those are kept that some rule asks about, and the class of its data.
    """
    asked_about = policy.metadata_names | {DATA_CLASS}
    known = {name: value for name, value in request.metadata.items() if name in asked_about}
    asked = replace(request, metadata=known, claim=None, trace=None)
    live, ids, task = snapshot.live, snapshot.deployments, request.task or ""
    binding = set(binding_budgets(snapshot.budgets, request.caller))
    budgets = tuple(one for one in snapshot.budgets if one in binding or one.scope == "deployment")
    return {
        "format": FORMAT,
        "policy": policy.digest,
        "policy_name": policy.name,
        "policy_version": policy.version,
        "catalog": snapshot.digest,
        "request": _REQUEST.dump_python(asked, mode="json", exclude_defaults=True),
        "breaker_open": sorted(snapshot.breaker_open & ids.keys()),
        "budgets": _table(_ROOM, map(_room, budgets)),
        "latency": {
            name: {str(bucket): count for bucket, count in enumerate(sketch.counts) if count}
            for name, sketch in live.latency.items()
            if name in ids
        },
        "failed_share": {name: share for name, share in live.failed_share.items() if name in ids and share},
        "load": {name: count for name, count in live.load.items() if name in ids},
        "output_tokens": {name: count for name, count in live.output_tokens.get(task, {}).items() if name in ids},
        "warm": sorted(live.warm),
        "predictions": _PREDICTIONS.dump_python(_of_known_models(snapshot), mode="json"),
    }


def restored(inputs: Mapping[str, Any], catalog: Mapping[str, Any]) -> tuple[ChatRequest, CatalogSnapshot]:
    """Return request and snapshot from their documents; `choose` gives the same for them as it gave then."""
    return restored_request(inputs, restored_catalog(catalog, digest=inputs["catalog"]))


def restored_catalog(catalog: Mapping[str, Any], *, digest: str) -> CatalogSnapshot:
    """Return the part of a snapshot that many requests share."""
    return CatalogSnapshot(
        deployments=_DEPLOYMENTS.validate_python(catalog["deployments"]),
        quality={(task, digest): Quality(alpha, beta) for task, digest, alpha, beta in catalog["quality"]},
        prices=_PRICES.validate_python(catalog["prices"]),
        unavailable=dict(catalog["unavailable"]),
        digest=digest,
    )


def restored_request(inputs: Mapping[str, Any], shared: CatalogSnapshot) -> tuple[ChatRequest, CatalogSnapshot]:
    """Return a request, and the shared part with what was seen at its moment."""
    request = _REQUEST.validate_python(inputs["request"])
    live = Live(
        latency={name: _sketch(counts) for name, counts in inputs["latency"].items()},
        failed_share=dict(inputs["failed_share"]),
        load=dict(inputs["load"]),
        output_tokens={request.task or "": dict(inputs["output_tokens"])},
        warm=frozenset(inputs["warm"]),
    )
    breaker_open = frozenset(inputs["breaker_open"])
    budgets = _BUDGETS.validate_python(_rows(inputs["budgets"]))
    predictions = _PREDICTIONS.validate_python(inputs.get("predictions", ()))
    return request, replace(shared, breaker_open=breaker_open, budgets=budgets, live=live, predictions=predictions)


def _of_known_models(snapshot: CatalogSnapshot) -> tuple[QualityPrediction, ...]:
    digests = {one.artefact_digest for one in snapshot.deployments.values()}
    return tuple(
        replace(one, models={digest: word for digest, word in one.models.items() if digest in digests})
        for one in snapshot.predictions
    )


def _sketch(counts: Mapping[str, int]) -> LatencySketch:
    size = max((int(bucket) for bucket in counts), default=-1) + 1
    return LatencySketch(tuple(counts.get(str(bucket), 0) for bucket in range(size)))


def _safe(details: Mapping[str, object]) -> dict[str, Any]:
    return {name: value for name, value in details.items() if name in ("rule", "removed")}
