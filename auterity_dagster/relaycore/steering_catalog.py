"""Which deployments a policy and the registry make together."""

from collections.abc import Mapping
from dataclasses import replace

from auterity_dagster.relaycore.catalog import CatalogSnapshot, Deployment, registered_id
from auterity_dagster.relaycore.pricing import Price
from auterity_dagster.relaycore.steering_policy import SteeringPolicy


def routable(
    policy: SteeringPolicy, registered: Mapping[str, Deployment], barred: Mapping[str, str]
) -> tuple[Mapping[str, Deployment], Mapping[str, str]]:
    """Return the policy's deployments and the registry's own, by id, and why some cannot be called.

    A deployment that the policy writes with `provider: served` is the registered one under another id: the policy says
    price, place and capabilities, the registry says bytes, tasks and weight. `barred` says which registered ones
    cannot be called.
    """
    deployments: dict[str, Deployment] = {}
    unavailable = dict(barred)
    for written in policy.deployments:
        one = written.deployment()
        if written.alias is not None:
            source_id = registered_id(written.model, written.alias)
            source = registered.get(source_id)
            if source is None:
                unavailable[one.id] = f"registry: nothing is published as {written.model} with alias {written.alias}"
            else:
                one = replace(
                    one,
                    model=source.model,
                    artefact_digest=source.artefact_digest,
                    tasks=source.tasks,
                    weight_percent=min(one.weight_percent, source.weight_percent),
                )
                if source_id in barred:
                    unavailable[one.id] = barred[source_id]
        deployments[one.id] = one
    return {**deployments, **registered}, unavailable


def under_policy(snapshot: CatalogSnapshot, policy: SteeringPolicy, prices: Mapping[str, Price]) -> CatalogSnapshot:
    """Return a past snapshot as another policy would have seen it.

    Prices and evidence are those of then; `prices` serves keys that had none. A deployment that was not in use then
    counts as one that can be called.
    """
    registered = {name: one for name, one in snapshot.deployments.items() if "/" in name}
    barred = {name: why for name, why in snapshot.unavailable.items() if name in registered}
    deployments, unavailable = routable(policy, registered, barred)
    still = {name: why for name, why in snapshot.unavailable.items() if name in deployments}
    return replace(
        snapshot,
        deployments=deployments,
        prices={**prices, **snapshot.prices},
        unavailable={**unavailable, **still},
        digest="",
    )
