"""Runs, figures and artefacts in MLflow, always by explicit run id: the library's own run stack is per thread.

A stage has one run however often it is tried; its id is remembered in PostgreSQL, and its tag finds it again.
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag, ViewType
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

from auterity_dagster.errors import Unavailable

_PARAMETER_LIMIT = 500
_BATCH = 500


@dataclass(frozen=True, slots=True)
class Point:
    """One value of a curve."""

    name: str
    value: float
    step: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class DatasetMark:
    """A dataset by digest: what MLflow shows as a run's input."""

    name: str
    digest: str
    source: str
    context: str


class MlflowTracking:
    """One tracking server. Raises `Unavailable` when it does not answer or refuses."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._client = MlflowClient(tracking_uri=url, registry_uri=url)

    def start_run(self, *, experiment: str, name: str, key: str, tags: Mapping[str, str]) -> str:
        """Return the id of the run with this key, made now or by an earlier attempt, and mark it as running."""
        try:
            experiment_id = self._experiment(experiment)
            found = self._client.search_runs(
                [experiment_id], f"tags.`auterity.key` = '{key}'", ViewType.ACTIVE_ONLY, max_results=1
            )
            if found:
                run_id = found[0].info.run_id
                self._client.update_run(run_id, status="RUNNING")
                return run_id
            run = self._client.create_run(experiment_id, run_name=name, tags={**tags, "auterity.key": key})
        except MlflowException as error:
            raise _unavailable(error) from error
        return run.info.run_id

    def log(
        self,
        run_id: str,
        *,
        parameters: Mapping[str, object] | None = None,
        figures: Mapping[str, float] | None = None,
        points: Iterable[Point] = (),
        tags: Mapping[str, str] | None = None,
        datasets: Iterable[DatasetMark] = (),
    ) -> None:
        """Add parameters, final figures, curves, tags and datasets to a run."""
        now_ms = int(time.time() * 1000)
        metrics = [Metric(name, value, now_ms, 0) for name, value in (figures or {}).items()]
        metrics += [Metric(point.name, point.value, point.at_ms, point.step) for point in points]
        known = [Param(name, str(value)[:_PARAMETER_LIMIT]) for name, value in (parameters or {}).items()]
        inputs = [
            DatasetInput(
                dataset=Dataset(name=mark.name, digest=mark.digest[:36], source_type="local", source=mark.source),
                tags=[InputTag(MLFLOW_DATASET_CONTEXT, mark.context)],
            )
            for mark in datasets
        ]
        try:
            self._client.log_batch(run_id, params=known, tags=[RunTag(*tag) for tag in (tags or {}).items()])
            for start in range(0, len(metrics), _BATCH):
                self._client.log_batch(run_id, metrics=metrics[start : start + _BATCH])
            if inputs:
                self._client.log_inputs(run_id, inputs)
        except MlflowException as error:
            raise _unavailable(error) from error

    def last_step(self, run_id: str, name: str) -> int:
        """Return the last step that a run's curve shows, or -1 when it shows none."""
        try:
            return max((point.step for point in self._client.get_metric_history(run_id, name)), default=-1)
        except MlflowException as error:
            raise _unavailable(error) from error

    def log_folder(self, run_id: str, folder: Path, *, path: str) -> str:
        """Upload a folder's files as plain artefacts and return their address."""
        try:
            self._client.log_artifacts(run_id, str(folder), path)
        except MlflowException as error:
            raise _unavailable(error) from error
        return self.artifact_address(run_id, path)

    def artifact_address(self, run_id: str, path: str) -> str:
        """Return the address of a run's artefact folder."""
        try:
            return f"{self._client.get_run(run_id).info.artifact_uri}/{path}"
        except MlflowException as error:
            raise _unavailable(error) from error

    def log_text(self, run_id: str, text: str, *, path: str) -> None:
        """Upload one text file."""
        try:
            self._client.log_text(run_id, text, path)
        except MlflowException as error:
            raise _unavailable(error) from error

    def finish(self, run_id: str, *, is_failed: bool = False) -> None:
        """End a run."""
        try:
            self._client.set_terminated(run_id, status="FAILED" if is_failed else "FINISHED")
        except MlflowException as error:
            raise _unavailable(error) from error

    def run_address(self, run_id: str) -> str:
        """Return where a person sees the run."""
        experiment_id = self._client.get_run(run_id).info.experiment_id
        return f"{self._url}/#/experiments/{experiment_id}/runs/{run_id}"

    def _experiment(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        if found is not None:
            return found.experiment_id
        try:
            return self._client.create_experiment(name)
        except MlflowException:
            # Another process made it meanwhile, or the server refuses: the second look tells which.
            found = self._client.get_experiment_by_name(name)
            if found is None:
                raise
            return found.experiment_id


def _unavailable(error: MlflowException) -> Unavailable:
    return Unavailable(f"MLflow: {error.message}", code="mlflow_unavailable")
