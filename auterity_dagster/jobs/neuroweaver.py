"""The jobs of model specialisation. Steps run in one process: what is heavy runs in the training child."""

from collections.abc import Mapping
from uuid import UUID

import dagster as dg

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


def run_config(
    organization_id: UUID, *, recipe: str, dataset: str = "", conversations: int = 2000
) -> Mapping[str, object]:
    """Return the configuration of a run: whose candidate, by which recipe, on which rows."""
    candidate = {
        "organization_id": str(organization_id),
        "recipe": recipe,
        "dataset": dataset,
        "conversations": conversations,
    }
    return {"resources": {"candidate": {"config": candidate}}}
