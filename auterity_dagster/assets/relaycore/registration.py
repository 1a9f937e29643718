"""A predictor in MLflow: a mirror for people of what the gate and the projection in PostgreSQL say."""

import dagster as dg

from auterity_dagster.errors import Unavailable
from auterity_dagster.resources.installation import InstallationResource
from auterity_dagster.resources.routing_scope import RoutingScope


def registered(
    context: dg.AssetExecutionContext,
    routing: RoutingScope,
    installation: InstallationResource,
    digest: str,
    *,
    prompts: int,
) -> tuple[str | None, str | None]:
    """Return run and version of the predictor in MLflow, alias `challenger`; without MLflow neither."""
    try:
        tracking, registry = installation.tracking(), installation.registry()
        run_id = tracking.start_run(
            experiment=f"relaycore/{routing.name}",
            name="quality model",
            key=digest,
            tags={"dagster.run_id": context.run.run_id, "auterity.artefact_digest": digest},
        )
        tracking.log(run_id, figures={"learned_prompts": float(prompts)})
        tracking.log_folder(run_id, installation.store.checkout(digest), path="predictor")
        tracking.finish(run_id)
        version = registry.register(
            name=routing.name,
            source=tracking.artifact_address(run_id, "predictor"),
            run_id=run_id,
            artefact_digest=digest,
            tags={},
            description="A routing predictor: safetensors and JSON.",
        )
        registry.set_alias(version, "challenger")
    except Unavailable as error:
        context.log.warning(error.message)
        return None, None
    return run_id, version.version


def name_champion(
    context: dg.AssetExecutionContext, routing: RoutingScope, installation: InstallationResource, digest: str
) -> None:
    """Let the alias in MLflow follow what the gate decided."""
    try:
        registry = installation.registry()
        version = registry.version_of(routing.name, digest)
        if version is not None:
            registry.set_alias(version, "champion")
    except Unavailable as error:
        context.log.warning(error.message)
