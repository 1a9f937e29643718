"""What a candidate starts from and is measured with: the base model and the evaluation suites."""

from pathlib import Path

import dagster as dg

from auterity_dagster.assets.checks import blocking, checked
from auterity_dagster.assets.neuroweaver.documents import StageArtefact, Suites, handed
from auterity_dagster.assets.neuroweaver.stage import StageRunner
from auterity_dagster.neuroweaver.canaries import canary_items
from auterity_dagster.neuroweaver.jsonl import canonical_lines
from auterity_dagster.neuroweaver.selection import evaluation_items
from auterity_dagster.neuroweaver.stage import Stage
from auterity_dagster.neuroweaver.suites.external import external_items
from auterity_dagster.neuroweaver.suites.suite import evaluation_suite, suite_of
from auterity_dagster.resources.candidate import CandidateResource
from auterity_dagster.resources.database import DatabaseResource
from auterity_dagster.resources.installation import InstallationResource
from auterity_dagster.resources.training_launcher import TrainingLauncher

GROUP = "neuroweaver"
SUITE_SEED = 7
GUARDED_ITEMS = 400
"""Items of each family that no training may give away, whichever of them a recipe measures with."""

LICENCES = frozenset({"Apache-2.0", "MIT", "customer-data"})


@dg.asset(
    group_name=GROUP,
    dagster_type=handed(StageArtefact),
    kinds={"huggingface"},
    check_specs=[blocking("digest_pinned", "base_model"), blocking("licence_allowed", "base_model")],
)
def base_model(
    context: dg.AssetExecutionContext,
    candidate: CandidateResource,
    installation: InstallationResource,
    launcher: TrainingLauncher,
    database: DatabaseResource,
) -> dg.MaterializeResult:
    """The base in safetensors, verified against the recipe's digest and converted once."""
    runner = StageRunner(context, candidate, installation, launcher, database)
    base = candidate.read_recipe().base
    artefact = runner.run(Stage.BASE, inputs={})
    return dg.MaterializeResult(
        value=artefact,
        metadata={**runner.metadata(artefact), "id": base.id, "source": base.source},
        check_results=[
            checked("digest_pinned", base.sha256 is not None or base.format == "generated", sha256=base.sha256),
            checked("licence_allowed", base.licence in LICENCES, licence=base.licence),
        ],
    )


@dg.asset(
    group_name=GROUP,
    dagster_type=handed(Suites),
    kinds={"jsonl"},
    check_specs=[blocking("origin_disjoint", "evaluation_suites")],
)
def evaluation_suites(candidate: CandidateResource, installation: InstallationResource) -> dg.MaterializeResult:
    """Held-out items of another origin than the training rows, and questions that try to get planted secrets out."""
    recipe, prompts, store = candidate.read_recipe(), candidate.prompts(), installation.store
    whole = evaluation_suite(
        prompts, seed=SUITE_SEED, items_per_family=max(GUARDED_ITEMS, recipe.evaluation.items_per_family)
    )
    external = external_items(Path(candidate.config_dir) / "suites", prompts)
    own = tuple(item for item in external if item.family in recipe.data.families)
    suite = suite_of((*evaluation_items(whole.items, recipe), *own))
    secrets = canary_items(prompts, seed=recipe.seed, count=recipe.evaluation.canaries)
    document = Suites(
        items=store.put_bytes(canonical_lines(suite.items)),
        guarded=store.put_bytes(canonical_lines((*whole.items, *external, *secrets))),
        suite_digest=suite.digest,
        canaries=store.put_bytes(canonical_lines(secrets)),
        count=len(suite.items),
    )
    origins = sorted({item.origin for item in suite.items})
    return dg.MaterializeResult(
        value=document,
        metadata={"items": len(suite.items), "origins": origins, "digest": suite.digest, "canaries": len(secrets)},
        check_results=[checked("origin_disjoint", "dealership-a" not in " ".join(origins), origins=origins)],
    )
