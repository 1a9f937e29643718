"""Optimisation by programs' rewards, where the recipe asks for it."""

import dagster as dg

from auterity_dagster.assets.checks import blocking, checked, starts_where_left
from auterity_dagster.assets.neuroweaver.data import GROUP
from auterity_dagster.assets.neuroweaver.documents import Dataset, StageArtefact, handed
from auterity_dagster.assets.neuroweaver.stage import StageRunner
from auterity_dagster.mlflow.tracking import DatasetMark
from auterity_dagster.neuroweaver.stage import Stage
from auterity_dagster.resources.candidate import CandidateResource
from auterity_dagster.resources.database import DatabaseResource
from auterity_dagster.resources.installation import InstallationResource
from auterity_dagster.resources.training_launcher import TrainingLauncher

GAMED_BY = 0.03
"""How far the held-out judge may fall over the whole stage."""


@dg.asset(
    group_name=GROUP,
    dagster_type=handed(StageArtefact),
    kinds={"huggingface", "python"},
    check_specs=[blocking(name, "grpo_adapter") for name in ("starts_from_adapter", "held_out_kept")],
)
def grpo_adapter(
    context: dg.AssetExecutionContext,
    candidate: CandidateResource,
    installation: InstallationResource,
    launcher: TrainingLauncher,
    database: DatabaseResource,
    base_model: StageArtefact,
    training_examples: Dataset,
    dpo_adapter: StageArtefact,
) -> dg.MaterializeResult:
    """Group-relative optimisation on top of the last adapter; a recipe without it hands that adapter on."""
    if candidate.read_recipe().grpo is None:
        told = "the recipe has no grpo stage: the adapter stays"
        return dg.MaterializeResult(
            value=dpo_adapter,
            metadata={"digest": dpo_adapter.digest, "skipped": told},
            check_results=[
                checked("starts_from_adapter", True, skipped=told),
                checked("held_out_kept", True, skipped=told),
            ],
        )
    expected = _log_probability(dpo_adapter)
    runner = StageRunner(context, candidate, installation, launcher, database)
    artefact = runner.run(
        Stage.GRPO,
        inputs={"base": base_model.digest, "sft": dpo_adapter.digest, "train": training_examples.train},
        expected={"reference_log_probability": expected},
        datasets=[DatasetMark("train", training_examples.train, f"objects/{training_examples.train}", "training")],
    )
    figures = artefact.metrics
    return dg.MaterializeResult(
        value=artefact,
        metadata=runner.metadata(artefact),
        check_results=[
            starts_where_left("starts_from_adapter", found=figures["start_log_probability"], recorded=expected),
            checked(
                "held_out_kept",
                figures["held_out_first"] - figures["held_out_last"] <= GAMED_BY,
                first=figures["held_out_first"],
                last=figures["held_out_last"],
            ),
        ],
    )


def _log_probability(adapter: StageArtefact) -> float:
    """Return what the stage that made the adapter recorded of it: DPO at its end, or SFT where DPO was skipped."""
    recorded = adapter.metrics.get("end_log_probability")
    return adapter.metrics["reference_log_probability"] if recorded is None else recorded
