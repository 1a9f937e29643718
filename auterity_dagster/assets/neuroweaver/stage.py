"""One stage of training for an asset: found again by its key, or run in its own process and shown in MLflow."""

import hashlib
import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import dagster as dg

import auterity_dagster.decoding
import auterity_dagster.training
from auterity_dagster.assets.neuroweaver.curves import CurveForwarder
from auterity_dagster.assets.neuroweaver.documents import StageArtefact
from auterity_dagster.errors import BudgetExceeded, Unavailable
from auterity_dagster.mlflow.tracking import DatasetMark, MlflowTracking
from auterity_dagster.money import NanoUsd, in_usd
from auterity_dagster.neuroweaver.machine_price import load_machine_prices, seconds_for
from auterity_dagster.neuroweaver.recipe import Budget, Recipe
from auterity_dagster.neuroweaver.stage import Generation, Stage, StageOutcome, StageSpec, stage_key
from auterity_dagster.resources.candidate import CandidateResource
from auterity_dagster.resources.database import DatabaseResource
from auterity_dagster.resources.installation import InstallationResource
from auterity_dagster.resources.training_launcher import StagePaused, TrainingLauncher
from auterity_dagster.resources.training_ledger import MachineTime, machine_time
from auterity_dagster.storage.database import BlockingDatabase
from auterity_dagster.storage.repositories import training_budgets, training_stages

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
            nusd_per_hour = machine_price(self.installation, recipe)
            room_nusd = self._room(database)
            spec = StageSpec(
                stage=stage,
                stage_key=key,
                recipe=recipe,
                inputs=inputs,
                store=self.installation.store.root,
                workdir=self.launcher.workdir(key),
                generation=generation,
                expected=expected or {},
                cap_s=cap_of(self.candidate.budget(), nusd_per_hour=nusd_per_hour, room_nusd=room_nusd),
                nusd_per_hour=nusd_per_hour,
            )
            outcome, cost_nusd = self._run(database, spec, run_id)
        self._tell_mlflow(run_id, outcome)
        assert outcome.digest is not None
        return StageArtefact(
            digest=outcome.digest,
            stage_key=key,
            mlflow_run_id=run_id,
            metrics={**outcome.metrics, "elapsed_s": round(outcome.elapsed_s, 1)},
            facts={**outcome.facts, "cost_usd": in_usd(cost_nusd)},
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

    def _run(self, database: BlockingDatabase, spec: StageSpec, run_id: str | None) -> tuple[StageOutcome, NanoUsd]:
        """Run the stage on held money; its memo and its MLflow run say how it ended, whichever way that was."""
        curves = None
        if run_id is not None:
            curves = CurveForwarder(self.installation.tracking(), run_id, spec.workdir / "events.jsonl")
        organization_id, state = self.candidate.organization, "failed"
        machine = MachineTime()
        try:
            with machine_time(
                self.database.url,
                organization_id=organization_id,
                device_class=spec.recipe.hardware.device_class,
                stage_key=spec.stage_key,
                nusd_per_hour=spec.nusd_per_hour,
                cap_s=spec.cap_s,
                allowance=self._allowance,
            ) as machine:
                watch = (lambda: None) if curves is None else curves.forward_if_possible
                outcome = self.launcher.run(self.context, spec, machine=machine, watch=watch)
            state = "finished"
        except StagePaused:
            state = "paused"
            raise
        except BudgetExceeded as error:
            raise dg.Failure(f"{spec.stage}: {error.message}", allow_retries=False) from error
        finally:
            with database.begin(organization_id) as session:
                training_stages.add_cost(session, stage_key=spec.stage_key, cost_nusd=machine.cost_nusd)
                if run_id is not None:
                    training_stages.attach_mlflow_run(session, stage_key=spec.stage_key, mlflow_run_id=run_id)
                if state != "finished":
                    training_stages.end_stage(session, stage_key=spec.stage_key, state=state)
            if state != "finished":
                self._tell_mlflow(run_id, None)
        with database.begin(organization_id) as session:
            cost_nusd = training_stages.finish_stage(
                session,
                stage_key=spec.stage_key,
                artefact_digest=outcome.digest or "",
                metrics={"metrics": dict(outcome.metrics), "facts": dict(outcome.facts)},
            )
        return outcome, cost_nusd

    @property
    def _allowance(self) -> str | None:
        """What pays for the run where somebody asked for it: the request's own budget in the ledger."""
        request = self.candidate.training_request
        return training_budgets.allowance(UUID(request)) if request else None

    def _room(self, database: BlockingDatabase) -> NanoUsd | None:
        """Return what the request's budget still pays for machines; None where nobody asked for the run."""
        if self._allowance is None:
            return None
        budget = self.candidate.budget()
        with database.begin(self.candidate.organization) as session:
            return training_budgets.room(
                session,
                self.candidate.organization,
                UUID(self.candidate.training_request),
                cap_nusd=budget.cap_nusd - budget.judge_cap_nusd,
            )

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
        if stage not in (Stage.SFT, Stage.DPO, Stage.GRPO):
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

    def _tell_mlflow(self, run_id: str | None, outcome: StageOutcome | None) -> None:
        if run_id is None:
            return
        try:
            tracking = self.installation.tracking()
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


def machine_price(installation: InstallationResource, recipe: Recipe) -> NanoUsd:
    """Return what an hour of the recipe's hardware costs. Raises `PriceUnknown`."""
    return load_machine_prices(Path(installation.config_dir) / "machines.yaml").nusd_per_hour(recipe.hardware)


def cap_of(budget: Budget, *, nusd_per_hour: NanoUsd, room_nusd: NanoUsd | None = None) -> int:
    """Return for how many seconds a stage may train: the budget's hours, or what its money pays for if that is less.

    `room_nusd` is what earlier stages of the same request left of it.
    """
    hours_s = round(budget.cap_hours * 3600)
    money_nusd = budget.cap_nusd - budget.judge_cap_nusd if room_nusd is None else room_nusd
    paid_s = seconds_for(money_nusd, nusd_per_hour=nusd_per_hour)
    return max(1, hours_s if paid_s is None else min(hours_s, paid_s))


def code_digest() -> str:
    """Return the digest of the code that trains and answers, and of the libraries that compute."""
    digest = hashlib.sha256()
    for package in (auterity_dagster.training, auterity_dagster.decoding):
        for path in sorted(Path(package.__path__[0]).glob("*.py")):
            digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    digest.update("".join(f"{name}=={importlib.metadata.version(name)}\n" for name in _LIBRARIES).encode())
    return digest.hexdigest()


def _parameters(recipe: Recipe, stage: Stage) -> dict[str, object]:
    block = {Stage.SFT: recipe.sft, Stage.DPO: recipe.dpo, Stage.GRPO: recipe.grpo}[stage]
    assert block is not None
    values = {f"{stage}.{name}": value for name, value in block.model_dump(mode="json").items()}
    values |= {f"adapter.{name}": value for name, value in recipe.adapter.model_dump(mode="json").items()}
    return values | {"recipe": recipe.recipe, "base": recipe.base.id, "seed": recipe.seed}
