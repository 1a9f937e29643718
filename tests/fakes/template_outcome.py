"""What came of a sample, in the form that it is recorded in; and whether two records tell of the same messages."""

import json
import re
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import select

from auterity_dagster.automatrix.compiled_workflow import CompiledWorkflow
from auterity_dagster.automatrix.step_path import read_path
from auterity_dagster.storage.tables.messaging import MessageRow
from auterity_dagster.storage.tables.workflows import (
    ApprovalRow,
    ExecutionRow,
    SideEffectRow,
    StepResultRow,
    TaskRow,
)
from tests.fakes.template_samples import SampleService
from tests.fakes.workflow_world import Dealership, World, templates

_LINK = re.compile(r"https://api\.example\.com/api/v1/unsubscribe/[\w-]{64}")
"""It names organization and contact, and so is another in every run."""

LOOKED_AT = (ExecutionRow, StepResultRow, MessageRow, TaskRow, ApprovalRow, SideEffectRow)


def differences(world: World, dealership: Dealership, record: Path, service: SampleService) -> list[str]:
    """Return where the messenger's own record and the journal tell of different messages, and requests likewise."""
    lines = [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []
    told = [one for one in lines if one["organization_id"] == str(dealership.organization_id)]
    with world.database.begin(dealership.organization_id) as session:
        messages = [row for row in session.scalars(select(MessageRow)) if row.direction == "out"]
        effects = list(session.scalars(select(SideEffectRow)))
    sent = sorted((row.effect_key or "", row.provider_ref or "", row.text) for row in messages if row.state == "sent")
    found = [] if sent == sorted((one["key"], one["message_id"], one["text"]) for one in told) else ["messages"]
    done = [row for row in effects if row.kind.startswith("send_") and row.state == "confirmed"]
    confirmed = sorted((row.key, row.provider_ref or "") for row in done)
    if confirmed != sorted((one["key"], one["message_id"]) for one in told):
        found.append("effects")
    asked = {one.headers["idempotency-key"] for one in service.asked if one.method != "GET"}
    requests = [row for row in effects if row.kind in ("http_request", "crm_update")]
    if not _keys(one for one in requests if one.state == "confirmed") <= asked <= _keys(requests):
        found.append("requests")
    # Whatever was meant to happen is settled: nothing waits for somebody to find out about it.
    found += [f"open: {row.key}" for row in effects if row.state in ("intended", "unknown")]
    return found


def _keys(rows: Iterable[SideEffectRow]) -> set[str]:
    """The keys as services see them."""
    return {sha256(row.key.encode()).hexdigest() for row in rows}


def execution_of(row: Any) -> UUID | None:
    """Return the execution that a row belongs to."""
    return row.id if isinstance(row, ExecutionRow) else row.execution_id


def outcome(key: str, own: dict[Any, list[Any]]) -> dict[str, Any]:
    """Return what one execution's rows come to: `own` has those of each table in `LOOKED_AT`."""
    (execution,) = own[ExecutionRow]
    newest = {row.path: row for row in sorted(own[StepResultRow], key=lambda row: row.attempt)}
    workflow = templates()[key]
    done = [newest[path] for path in sorted(newest, key=lambda path: _place(workflow, path))]
    found: dict[str, Any] = {
        "state": execution.state if execution.error is None else f"{execution.state}: {execution.error['code']}",
        "path": [_step(row) for row in done if row.state not in ("skipped", "cancelled")],
        "sent": [
            _LINK.sub("<link>", row.text)
            for row in sorted(own[MessageRow], key=lambda row: row.created_at)
            if row.state == "sent"
        ],
        "held": [f"{row.reason}" for row in own[MessageRow] if row.state == "suppressed"],
        "tasks": sorted(f"{row.role}: {row.title}" for row in own[TaskRow]),
        "approvals": [row.state for row in sorted(own[ApprovalRow], key=lambda row: row.created_at)],
    }
    return {name: value for name, value in found.items() if value or name in ("state", "path")}


def _step(row: StepResultRow) -> str:
    choice = (row.output or {}).get("choice") if row.kind == "decide" else None
    if row.state == "failed":
        return f"{row.path}: {(row.error or {})['code']}"
    return row.path if choice is None else f"{row.path}: {choice}"


def _place(workflow: CompiledWorkflow, path: str) -> tuple[int, int, int]:
    place = read_path(path)
    known = [*workflow.steps, *workflow.on_failure]
    if place.loop is None or place.index is None:
        return known.index(path), -1, 0
    loop = workflow.steps[place.loop].loop
    assert loop is not None
    return known.index(place.loop), place.index, list(loop.body).index(place.step_id)
