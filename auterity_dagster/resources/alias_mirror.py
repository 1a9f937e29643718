"""MLflow's aliases as a mirror of what scopes serve: written after each switch, and set right when a hand moved one."""

from collections.abc import Mapping
from uuid import UUID

from sqlalchemy.orm import Session

from auterity_dagster.mlflow.registry import Alias, MlflowRegistry, ModelVersion
from auterity_dagster.neuroweaver.switching import ServingState
from auterity_dagster.storage.database import BlockingDatabase
from auterity_dagster.storage.repositories import serving_state

MIRRORED: tuple[Alias, ...] = ("champion", "challenger", "shadow", "previous")


def mirror_aliases(database: BlockingDatabase, registry: MlflowRegistry, organization_id: UUID) -> tuple[str, ...]:
    """Make the aliases of an organization's models say what its scopes serve; return what had to be changed.

    Raises `Unavailable` when MLflow does not answer: the next look makes up for it, for nothing depends on the order.
    """
    with database.begin(organization_id) as session:
        wanted = {state.scope: (state.sequence, _wanted(session, state)) for state in serving_state.scopes(session)}
    changed: list[str] = []
    for scope, (sequence, versions) in wanted.items():
        for name in sorted({one.name for one in versions.values()} | {model_name(scope)}):
            changed += _mirror(registry, name, {alias: one for alias, one in versions.items() if one.name == name})
        with database.begin(organization_id) as session:
            serving_state.note_projected(session, scope, sequence)
    return tuple(changed)


def model_name(scope: str) -> str:
    """Return the name of a scope's registered model."""
    return f"neuroweaver-{scope}"


def _wanted(session: Session, state: ServingState) -> Mapping[Alias, ModelVersion]:
    challenger: Alias = "challenger" if state.challenger_percent else "shadow"
    digests: Mapping[Alias, str | None] = {
        "champion": state.current_digest,
        "previous": state.previous_digest,
        challenger: state.challenger_digest,
    }
    found: dict[Alias, ModelVersion] = {}
    for alias, digest in digests.items():
        known = serving_state.released(session, state.scope, digest)
        if known is not None:
            found[alias] = ModelVersion(known.registered_name, known.registered_version, known.artefact_digest)
    return found


def _mirror(registry: MlflowRegistry, name: str, wanted: Mapping[Alias, ModelVersion]) -> list[str]:
    there = registry.aliases(name)
    changed: list[str] = []
    for alias, version in wanted.items():
        if there.get(alias) != version.version:
            registry.set_alias(version, alias)
            changed.append(f"{name}@{alias}: {there.get(alias)} -> {version.version}")
    for alias in MIRRORED:
        if alias in there and alias not in wanted:
            registry.remove_alias(name, alias)
            changed.append(f"{name}@{alias}: {there[alias]} -> none")
    return changed
