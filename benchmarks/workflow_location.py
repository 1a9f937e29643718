"""A code location with one job of ten steps, none of which asks a model: what `benchmarks/workflows.py` measures."""

import sys
from pathlib import Path
from typing import Any

import dagster as dg

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from auterity_dagster.automatrix.compiled_workflow import CompiledWorkflow  # noqa: E402
from auterity_dagster.automatrix.expression import CelEngine  # noqa: E402
from auterity_dagster.automatrix.publication import compile_document  # noqa: E402
from auterity_dagster.jobs.automatrix import BATCHES, template_job  # noqa: E402
from auterity_dagster.resources.automatrix import AutomatrixResource  # noqa: E402

KEY = "ten_steps"


def _decide(number: int) -> dict[str, Any]:
    cases = [{"choice": "more", "when": f"size(event.data.vehicles) > {number}"}]
    return {"id": f"rule{number}", "kind": "decide", "with": {"cases": cases, "else": "fewer"}}


def _task(number: int) -> dict[str, Any]:
    title = "Call ${{ event.data.customer_name }}: ${{ steps.rule1.output.choice }}"
    return {"id": f"task{number}", "kind": "assign_task", "with": {"role": "manager", "title": title, "due": "PT1H"}}


def ten_steps_document() -> dict[str, Any]:
    """Five decisions, a search of the stock, three tasks, an event."""
    stock = {"id": "stock", "kind": "inventory_search", "with": {"wanted": "${{ event.data.vehicles }}"}}
    tell = {"id": "tell", "kind": "emit_event", "with": {"type": "lead.counted"}}
    rules, tasks = [_decide(number) for number in range(1, 6)], [_task(number) for number in range(1, 4)]
    return {
        "api_version": "automatrix/v1", "key": KEY, "name": "Ten steps", "idempotency_key": "event.data.dedupe_key",
        "triggers": [{"id": "lead", "type": "event", "event": "lead.received"}],
        "steps": [stock, *rules, *tasks, tell],
    }  # fmt: skip


def ten_steps() -> CompiledWorkflow:
    """The same, compiled."""
    return compile_document(ten_steps_document(), CelEngine())


class WithoutModel(AutomatrixResource):
    """The shipped composition, with nobody to ask."""

    def chat(self) -> Any:
        return None


def workflows() -> dg.Definitions:
    """The job as it would be a template's."""
    resource = WithoutModel(
        database_url=dg.EnvVar("AUTERITY_DATABASE_URL"),
        gateway_url="http://127.0.0.1:1",
        secrets_dir="",
        data_dir=dg.EnvVar("AUTERITY_DATA_DIR"),
        config_dir=str(ROOT / "config"),
    )
    job = template_job(ten_steps())
    return dg.Definitions(jobs=[job], resources={"automatrix": resource, BATCHES: dg.mem_io_manager})
