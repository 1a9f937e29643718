"""What one asset hands to the next: a small JSON document per asset and run, read back strictly; nothing is pickled."""

from pathlib import Path

import dagster as dg
from pydantic import BaseModel


class DocumentIOManager(dg.ConfigurableIOManager):
    """Keeps pydantic models as JSON files. A re-executed run finds what the run that it repeats had written."""

    data_dir: str

    def handle_output(self, context: dg.OutputContext, obj: object) -> None:
        if not isinstance(obj, BaseModel):
            raise dg.DagsterInvariantViolationError(f"{context.asset_key.to_user_string()} returned no document")
        path = self._folder(context.run_id) / f"{context.asset_key.path[-1]}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(obj.model_dump_json(indent=1), encoding="utf-8")

    def load_input(self, context: dg.InputContext) -> BaseModel:
        expected = context.dagster_type.typing_type
        run = context.step_context.dagster_run
        name = f"{context.asset_key.path[-1]}.json"
        for run_id in (run.run_id, run.parent_run_id, run.root_run_id):
            path = self._folder(run_id) / name if run_id else None
            if path is not None and path.is_file():
                return expected.model_validate_json(path.read_bytes())
        raise dg.Failure(
            f"{name} is not there: this run did not make it. Start the job nw_demo, or re-execute the run that did.",
            allow_retries=False,
        )

    def _folder(self, run_id: str) -> Path:
        return Path(self.data_dir) / "documents" / run_id
