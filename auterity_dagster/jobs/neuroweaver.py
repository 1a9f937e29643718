"""The jobs of model specialisation. Steps run in one process: what is heavy runs in the training child."""

from collections.abc import Mapping
from uuid import UUID

import dagster as dg

from auterity_dagster.assets.neuroweaver import answer_comparisons, live_quality

GROUP = "neuroweaver"

nw_demo = dg.define_asset_job(
    "nw_demo",
    selection=dg.AssetSelection.groups(GROUP),
    executor_def=dg.in_process_executor,
    description="The whole chain, from rows to a deployment if the gate passes.",
    tags={"dagster/max_runtime": str(4 * 3600)},
)

nw_train = dg.define_asset_job(
    "nw_train",
    selection=dg.AssetSelection.groups(GROUP) - dg.AssetSelection.assets("registered_model", "deployment"),
    executor_def=dg.in_process_executor,
    description="From rows to the gate's verdict; nothing is released.",
    tags={"dagster/max_runtime": str(4 * 3600)},
)


nw_watch = dg.define_asset_job(
    "nw_watch",
    selection=dg.AssetSelection.groups(live_quality.GROUP),
    executor_def=dg.in_process_executor,
    description="A day of production traffic against the week before it, for every organization.",
)

nw_compare = dg.define_asset_job(
    "nw_compare",
    selection=dg.AssetSelection.groups(answer_comparisons.GROUP),
    executor_def=dg.in_process_executor,
    description="Judge what challengers answered in the shadow against what was served.",
    tags={"dagster/max_runtime": str(3600)},
)

daily_watch = dg.build_schedule_from_partitioned_job(
    nw_watch, hour_of_day=1, minute_of_hour=10, default_status=dg.DefaultScheduleStatus.RUNNING
)


def run_config(
    organization_id: UUID,
    *,
    recipe: str,
    dataset: str = "",
    conversations: int = 2000,
    dealership_id: str = "",
    consent_id: str = "",
    training_request: str = "",
    budget_usd: str = "",
) -> Mapping[str, object]:
    """Return the configuration of a run: whose candidate, by which recipe, on which rows under which consent.

    A run that somebody asked for names the request, and what it may cost.
    """
    candidate = {
        "organization_id": str(organization_id),
        "recipe": recipe,
        "dataset": dataset,
        "conversations": conversations,
        "dealership_id": dealership_id,
        "consent_id": consent_id,
        "training_request": training_request,
        "budget_usd": budget_usd,
    }
    return {"resources": {"candidate": {"config": candidate}}}
