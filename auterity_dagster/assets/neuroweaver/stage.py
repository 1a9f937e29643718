"""One stage of training for an asset: found again by its key, or run in its own process and shown in MLflow."""

import hashlib
import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import dagster as dg

import auterity_dagster.training
from auterity_dagster.assets.neuroweaver.documents import StageArtefact
from auterity_dagster.errors import Unavailable
from auterity_dagster.mlflow.tracking import DatasetMark, MlflowTracking, Point
from auterity_dagster.neuroweaver.recipe import Recipe
from auterity_dagster.neuroweaver.stage import Generation, Stage, StageEvent, StageOutcome, StageSpec, stage_key
from auterity_dagster.resources.candidate import CandidateResource
from auterity_dagster.resources.database import DatabaseResource
from auterity_dagster.resources.installation import InstallationResource
from auterity_dagster.resources.training_launcher import TrainingLauncher
from auterity_dagster.storage.database import BlockingDatabase
from auterity_dagster.storage.repositories import training_stages

_LIBRARIES = ("torch", "transformers", "trl", "peft", "bitsandbytes", "safetensors", "tokenizers")


@dataclass(frozen=True)
class StageRunner:
    """What a stage's asset needs, bound to one run of Dagster."""

    context: dg.AssetExecutionContext
    candidate: CandidateResource
    installation: InstallationResource
    launcher: TrainingLauncher
    database: DatabaseResource

    def run(
        self,
        stage: Stage,
        *,
        inputs: Mapping[str, str],
        name: str = "",
        generation: Generation | None = None,
        expected: Mapping[str, float] | None = None,
        datasets: Sequence[DatasetMark] = (),
    ) -> StageArtefact:
        """Return the stage's artefact. Raises `dg.Failure` when it cannot be made."""
        recipe = self.candidate.read_recipe()
        extra = None if generation is None else generation.model_dump(mode="json")
        key = stage_key(stage, recipe=recipe, inputs=inputs, code=code_digest(), extra=extra)
        with self.database.connected() as database:
            known = self._known(database, key)
            if known is not None:
                self.context.log.info(f"{stage}: the finished stage {key[:12]} is reused")
                return known
            with database.begin(self.candidate.organization) as session:
                training_stages.start_stage(
                    session, organization_id=self.candidate.organization, stage_key=key, stage=stage
                )
            run_id = self._start_mlflow(recipe, stage, name or stage.value, key, datasets)
            spec = StageSpec(
                stage=stage,
                stage_key=key,
                recipe=recipe,
                inputs=inputs,
                store=self.installation.store.root,
                workdir=self.launcher.workdir(key),
                generation=generation,
                expected=expected or {},
                cap_s=round(recipe.budget.cap_hours * 3600),
            )
            try:
                outcome = self.launcher.run(self.context, spec)
            except BaseException:
                with database.begin(self.candidate.organization) as session:
                    training_stages.end_stage(session, stage_key=key, state="failed")
                self._tell_mlflow(run_id, spec, None)
                raise
            assert outcome.digest is not None
            with database.begin(self.candidate.organization) as session:
                if run_id is not None:
                    training_stages.attach_mlflow_run(session, stage_key=key, mlflow_run_id=run_id)
                training_stages.finish_stage(
                    session,
                    stage_key=key,
                    artefact_digest=outcome.digest,
                    metrics={"metrics": dict(outcome.metrics), "facts": dict(outcome.facts)},
                )
        self._tell_mlflow(run_id, spec, outcome)
        return StageArtefact(
            digest=outcome.digest,
            stage_key=key,
            mlflow_run_id=run_id,
            metrics={**outcome.metrics, "elapsed_s": round(outcome.elapsed_s, 1)},
            facts=outcome.facts,
            is_reused=False,
        )

    def metadata(self, artefact: StageArtefact) -> dict[str, dg.MetadataValue]:
        """Return what Dagster shows of an artefact: digest, figures, and the way to its MLflow run."""
        shown: dict[str, dg.MetadataValue] = {
            "digest": dg.MetadataValue.text(artefact.digest),
            "stage_key": dg.MetadataValue.text(artefact.stage_key),
            "reused": dg.MetadataValue.bool(artefact.is_reused),
        }
        shown |= {name: dg.MetadataValue.float(value) for name, value in artefact.metrics.items()}
        shown |= {name: dg.MetadataValue.text(value) for name, value in artefact.facts.items()}
        if artefact.mlflow_run_id is not None:
            shown["mlflow_run"] = dg.MetadataValue.url(self.installation.tracking().run_address(artefact.mlflow_run_id))
        return shown

    def _known(self, database: BlockingDatabase, key: str) -> StageArtefact | None:
        with database.begin(self.candidate.organization) as session:
            row = training_stages.finished_stage(session, key)
        if row is None or row.artefact_digest is None or not self.installation.store.has(row.artefact_digest):
            return None
        return StageArtefact(
            digest=row.artefact_digest,
            stage_key=key,
            mlflow_run_id=row.mlflow_run_id,
            metrics=row.metrics["metrics"],
            facts=row.metrics["facts"],
            is_reused=True,
        )

    def _start_mlflow(
        self, recipe: Recipe, stage: Stage, name: str, key: str, datasets: Sequence[DatasetMark]
    ) -> str | None:
        if stage not in (Stage.SFT, Stage.DPO):
            return None
        try:
            tracking = self.installation.tracking()
            run_id = tracking.start_run(
                experiment=experiment(self.candidate),
                name=f"{recipe.recipe} {name}",
                key=key,
                tags={"dagster.run_id": self.context.run_id, "auterity.recipe_digest": recipe.digest},
            )
            tracking.log(run_id, parameters=_parameters(recipe, stage), datasets=datasets)
        except Unavailable as error:
            self.context.log.warning(f"{error.message}: the stage goes on without it")
            return None
        return run_id

    def _tell_mlflow(self, run_id: str | None, spec: StageSpec, outcome: StageOutcome | None) -> None:
        if run_id is None:
            return
        try:
            tracking = self.installation.tracking()
            tracking.log(run_id, points=_curves(spec.workdir))
            if outcome is not None and outcome.digest is not None:
                tracking.log(
                    run_id, figures=outcome.metrics, tags={**outcome.facts, "auterity.artefact_digest": outcome.digest}
                )
                self._upload(tracking, run_id, outcome.digest)
            tracking.finish(run_id, is_failed=outcome is None)
        except Unavailable as error:
            self.context.log.warning(error.message)

    def _upload(self, tracking: MlflowTracking, run_id: str, digest: str) -> None:
        tracking.log_folder(run_id, self.installation.store.checkout(digest), path="adapter")


def experiment(candidate: CandidateResource) -> str:
    """Return the MLflow experiment of a scope."""
    return f"neuroweaver/{candidate.scope}"


def code_digest() -> str:
    """Return the digest of the training code and of the libraries that compute."""
    folder = Path(auterity_dagster.training.__path__[0])
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    digest.update("".join(f"{name}=={importlib.metadata.version(name)}\n" for name in _LIBRARIES).encode())
    return digest.hexdigest()


def _parameters(recipe: Recipe, stage: Stage) -> dict[str, object]:
    block = recipe.sft if stage is Stage.SFT else recipe.dpo
    assert block is not None
    values = {f"{stage}.{name}": value for name, value in block.model_dump(mode="json").items()}
    values |= {f"adapter.{name}": value for name, value in recipe.adapter.model_dump(mode="json").items()}
    return values | {"recipe": recipe.recipe, "base": recipe.base.id, "seed": recipe.seed}


def _curves(workdir: Path) -> list[Point]:
    path = workdir / "events.jsonl"
    if not path.is_file():
        return []
    events = [StageEvent.model_validate_json(line) for line in path.read_bytes().splitlines()]
    return [
        Point(name=name.replace("/", "_"), value=value, step=event.step or 0, at_ms=round(event.at * 1000))
        for event in events
        if event.kind == "progress"
        for name, value in event.values.items()
    ]
