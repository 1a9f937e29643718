"""Which deployments a policy and the registry make together."""

from collections.abc import Mapping
from dataclasses import replace

from auterity_dagster.relaycore.catalog import CatalogSnapshot, Deployment, DeploymentOverride, registered_id
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


def narrowed(
    deployments: Mapping[str, Deployment], overrides: Mapping[str, DeploymentOverride]
) -> tuple[Mapping[str, Deployment], Mapping[str, str]]:
    """Return the deployments with the shares that people set, and which of them are switched off, and why."""
    shares = {name: one.weight_percent for name, one in overrides.items() if one.weight_percent is not None}
    off = {name: f"off: {one.note or 'switched off'}" for name, one in overrides.items() if one.is_off}
    return {
        name: replace(one, weight_percent=min(one.weight_percent, shares.get(name, 100)))
        for name, one in deployments.items()
    }, {name: why for name, why in off.items() if name in deployments}


def foreign_credentials(own: SteeringPolicy, platform: SteeringPolicy) -> Mapping[str, str]:
    """Return the deployments of an organization's policy whose credential is not its to use, and why.

    Secrets belong to whoever runs the platform: an organization may use those that the platform's own policy names,
    and send each only to the provider for which it is named there.
    """
    lent = {(one.provider, one.credential) for one in platform.deployments}
    return {
        one.id: f"credential: the platform's policy does not lend {one.credential} for {one.provider}"
        for one in own.deployments
        if one.credential is not None and (one.provider, one.credential) not in lent
    }


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
