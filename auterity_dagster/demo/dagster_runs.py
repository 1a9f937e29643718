"""Dagster as a person uses it, through its GraphQL API: launch a job, follow its run, read what it materialised."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import sleep, time

import httpx

from auterity_dagster.errors import Unavailable

_LAUNCH = """
mutation Launch($params: ExecutionParams!) {
  launchRun(executionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
    ... on RunConfigValidationInvalid { errors { message } }
    ... on PipelineNotFoundError { message }
    ... on InvalidSubsetError { message }
  }
}
"""
_RUN = """
query Run($id: ID!) {
  runOrError(runId: $id) {
    __typename
    ... on Run {
      status
      stepStats { stepKey status startTime endTime }
      assetMaterializations { assetKey { path } metadataEntries {
        label
        ... on TextMetadataEntry { text }
        ... on UrlMetadataEntry { url }
        ... on JsonMetadataEntry { jsonString }
      } }
    }
  }
}
"""
_LATEST = """
query Latest($filter: RunsFilter!) {
  runsOrError(filter: $filter, limit: 1) {
    __typename
    ... on Runs { results { runId status } }
  }
}
"""
FINAL_STATUSES = frozenset({"SUCCESS", "FAILURE", "CANCELED"})


@dataclass(frozen=True, slots=True)
class RunView:
    """One run: its status, each step's status and seconds so far, and metadata texts by asset and label."""

    run_id: str
    status: str
    steps: Mapping[str, str]
    step_seconds: Mapping[str, float]
    running_seconds: Mapping[str, float]
    metadata: Mapping[str, Mapping[str, str]]


class DagsterRuns:
    """Runs of one Dagster webserver, e.g. `http://127.0.0.1:3000`."""

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=url, timeout=60)

    def launch(self, job: str, *, location: str, run_config: Mapping[str, object], tags: Mapping[str, str]) -> str:
        """Start a run and return its id. Raises `Unavailable` with Dagster's own words."""
        selector = {
            "jobName": job,
            "repositoryLocationName": location,
            "repositoryName": "__repository__",
        }
        answer = self._ask(
            _LAUNCH,
            {
                "params": {
                    "selector": selector,
                    "runConfigData": run_config,
                    "executionMetadata": {"tags": [{"key": key, "value": value} for key, value in tags.items()]},
                }
            },
        )["launchRun"]
        if answer["__typename"] != "LaunchRunSuccess":
            words = answer.get("message") or [error["message"] for error in answer.get("errors", [])]
            raise Unavailable(f"Dagster did not start {job}: {answer['__typename']}: {words}")
        return answer["run"]["runId"]

    def latest(self, job: str, *, tags: Mapping[str, str]) -> str | None:
        """Return the newest run of a job with these tags that has not failed; None if there is none."""
        wanted = {"pipelineName": job, "tags": [{"key": key, "value": value} for key, value in tags.items()]}
        results = self._ask(_LATEST, {"filter": wanted})["runsOrError"]["results"]
        return results[0]["runId"] if results and results[0]["status"] not in ("FAILURE", "CANCELED") else None

    def view(self, run_id: str) -> RunView:
        """Look at a run once."""
        run = self._ask(_RUN, {"id": run_id})["runOrError"]
        if run["__typename"] != "Run":
            raise Unavailable(f"Dagster does not know the run {run_id}")
        steps = run["stepStats"]
        return RunView(
            run_id=run_id,
            status=run["status"],
            steps={step["stepKey"]: step["status"] for step in steps},
            step_seconds={
                step["stepKey"]: round(step["endTime"] - step["startTime"], 2)
                for step in steps
                if step["startTime"] and step["endTime"]
            },
            running_seconds={
                step["stepKey"]: time() - step["startTime"]
                for step in steps
                if step["startTime"] and not step["endTime"]
            },
            metadata={
                "/".join(event["assetKey"]["path"]): {
                    entry["label"]: entry.get("text") or entry.get("url") or entry.get("jsonString") or ""
                    for entry in event["metadataEntries"]
                }
                for event in run["assetMaterializations"]
            },
        )

    def follow(self, run_id: str, *, seen: Callable[[RunView], None], every_s: float = 2.0) -> RunView:
        """Look again and again until the run has ended."""
        while (view := self.view(run_id)).status not in FINAL_STATUSES:
            seen(view)
            sleep(every_s)
        return view

    def _ask(self, query: str, variables: Mapping[str, object]) -> dict[str, dict]:
        try:
            response = self._client.post("/graphql", json={"query": query, "variables": variables})
            response.raise_for_status()
        except httpx.HTTPError as error:
            raise Unavailable(f"Dagster does not answer: {error}") from error
        body = response.json()
        if body.get("errors"):
            raise Unavailable(f"Dagster refused the query: {body['errors'][0]['message']}")
        return body["data"]
