"""What a run about learned routing is for: whose, on which outcomes, and how good an answer has to be."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import dagster as dg

LIMIT_S = 3600


class RoutingScope(dg.ConfigurableResource):
    """One organization. `outcomes` is a Parquet file beside what evaluations left, `floor` what is good enough."""

    organization_id: str
    outcomes: str = ""
    floor: float = 0.7

    @property
    def organization(self) -> UUID:
        """The organization that everything belongs to."""
        return UUID(self.organization_id)

    @property
    def name(self) -> str:
        """The registered model's name."""
        return f"routing-o-{self.organization.hex[:8]}"


class PredictorTraining(dg.ConfigurableResource):
    """Runs `auterity_dagster.training.routing` as a child over Dagster Pipes."""

    data_dir: str

    def run(self, context: dg.AssetExecutionContext, stage: str, options: Mapping[str, str]) -> Mapping[str, Any]:
        """Return the child's message. Raises `dg.Failure` with what it said on its way out."""
        command = [sys.executable, "-m", "auterity_dagster.training.routing", stage]
        command += ["--store", str(Path(self.data_dir) / "objects")]
        for name, value in options.items():
            command += [f"--{name}", value]
        with dg.open_pipes_session(
            context=context,
            context_injector=dg.PipesEnvContextInjector(),
            message_reader=dg.PipesTempFileMessageReader(),
        ) as session:
            _finish(command, session.get_bootstrap_env_vars(), stage)
        messages: Sequence[Any] = session.get_custom_messages()
        if len(messages) != 1:
            raise dg.Failure(f"{stage}: the child reported {len(messages)} results", allow_retries=False)
        return messages[0]


def _finish(command: list[str], variables: Mapping[str, str], stage: str) -> None:
    try:
        child = subprocess.run(
            command, env={**os.environ, **variables}, capture_output=True, text=True, timeout=LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise dg.Failure(f"{stage}: not done after {LIMIT_S} s", allow_retries=False) from error
    if child.returncode:
        raise dg.Failure(f"{stage}: {child.stderr.strip()[-1000:]}", allow_retries=False)
