"""Ask for training when a scope's rows have grown or its base has changed; the repository keeps the cool-down."""

from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import dagster as dg
from sqlalchemy.orm import Session

from auterity_dagster.errors import ConfigurationInvalid
from auterity_dagster.neuroweaver.recipe import load_recipe
from auterity_dagster.neuroweaver.retraining import rows_wanted
from auterity_dagster.neuroweaver.switching import ServingState
from auterity_dagster.neuroweaver.traces import trace_row
from auterity_dagster.prompt import PromptTemplate, load_prompts
from auterity_dagster.resources.database import DatabaseResource
from auterity_dagster.resources.installation import InstallationResource
from auterity_dagster.storage.repositories import retrain_requests, serving_state
from auterity_dagster.storage.repositories.consents import current_consents
from auterity_dagster.storage.repositories.dataset_versions import newest_version
from auterity_dagster.storage.repositories.traces import traces
from auterity_dagster.storage.served_base import ServedBase, served_base
from auterity_dagster.storage.tables.datasets import DatasetVersionRow

LOOK_S = 3600


@dg.sensor(minimum_interval_seconds=LOOK_S, default_status=dg.DefaultSensorStatus.RUNNING)
def retrain_watch(
    context: dg.SensorEvaluationContext, database: DatabaseResource, installation: InstallationResource
) -> dg.SkipReason:
    """Open a request for each scope that has reason for one; one at a time, and none a week after the last."""
    config_dir = Path(installation.config_dir)
    prompts = dict(load_prompts(config_dir / "prompts"))
    told: list[str] = []
    with database.connected() as connected:
        with connected.begin_without_organization() as session:
            organizations = retrain_requests.organizations_with_serving(session)
        for organization_id in organizations:
            with connected.begin(organization_id) as session:
                for state in serving_state.scopes(session):
                    base = served_base(installation.store, state.current_digest) if state.current_digest else None
                    if base is None:
                        continue
                    told += _asked(session, organization_id, state, base, config_dir, prompts)
    for one in told:
        context.log.info(one)
    return dg.SkipReason("; ".join(told) or "no reason to train")


def _asked(
    session: Session,
    organization_id: UUID,
    state: ServingState,
    base: ServedBase,
    config_dir: Path,
    prompts: dict[str, PromptTemplate],
) -> list[str]:
    """Open what there is reason for in one scope, a changed base first; return it in words."""
    now = datetime.now(UTC)
    told: list[str] = []
    changed = _changed_base(base, config_dir)
    if changed is not None and retrain_requests.request_again(
        session, organization_id, state.scope, reason="base_changed", evidence=changed, now=now, recipe=base.recipe
    ):
        told.append(f"{state.scope}: base_changed")
    last = newest_version(session, state.scope)
    if last is None:
        return told
    wanted = rows_wanted(last_rows=last.rows)
    count = new_rows(session, last, prompts, enough=wanted)
    evidence = {"new_rows": count, "last_version": last.version, "last_rows": last.rows}
    if count >= wanted and retrain_requests.request_again(
        session, organization_id, state.scope, reason="new_rows", evidence=evidence, now=now, recipe=base.recipe
    ):
        told.append(f"{state.scope}: new_rows, {count}")
    return told


def new_rows(session: Session, last: DatasetVersionRow, prompts: dict[str, PromptTemplate], *, enough: int) -> int:
    """Return how many rows that may be trained on are not in a version yet; it stops counting where they are enough.

    Under a consent that the version rests on those since it was made; under another all there are.
    """
    seen: set[tuple[UUID, str, str]] = set()
    for consent in current_consents(session):
        since = last.created_at if str(consent.id) in last.consent_ids else None
        for trace in traces(session, dealership_id=consent.dealership_id, since=since):
            if trace_row(trace, prompts) is not None:
                seen.add((trace.execution_id, trace.prompt_key, trace.reply))
            if len(seen) >= enough:
                return len(seen)
    return len(seen)


def _changed_base(base: ServedBase, config_dir: Path) -> dict[str, str | None] | None:
    """Return from which base to which a scope would go, or None where its recipe still names the one it has."""
    try:
        wanted = load_recipe(config_dir / "recipes" / f"{base.recipe}.yaml").base
    except ConfigurationInvalid:
        return None
    if (wanted.id, wanted.sha256) == (base.base_id, base.sha256):
        return None
    return {"from": base.base_id, "from_sha256": base.sha256, "to": wanted.id, "to_sha256": wanted.sha256}
