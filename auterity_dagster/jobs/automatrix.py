"""One Dagster job a template, a step an op; and `custom_workflow` for everything drawn differently."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import dagster as dg

from auterity_dagster.automatrix.compiled_workflow import CompiledWorkflow
from auterity_dagster.automatrix.engine import BatchReport
from auterity_dagster.automatrix.ports import Claim
from auterity_dagster.automatrix.template import CUSTOM_JOB
from auterity_dagster.errors import ConfigurationInvalid
from auterity_dagster.resources.automatrix import AutomatrixResource

LANE_TAG = "auterity/lane"
CLAIMED_TAG = "auterity/claimed"
BATCHES = "batches"
"""The resource that hands batches from op to op, in the run's own memory."""

RESERVED = frozenset({"claim", "finish", "carry_on"})
CARRY_ON_FOR = timedelta(seconds=60)
"""How long a run takes further batches: starting another costs seconds, and the other jobs want their turn."""

Batch = list[dict[str, str]]
"""Claims as they go from op to op: ids and fences, no customer's data."""


@dg.op(out=dg.Out(is_required=False, io_manager_key=BATCHES, description="This run's claims; none without work."))
def claim(context: dg.OpExecutionContext, automatrix: AutomatrixResource):
    """Take executions that are ready, a fair share for every organization."""
    lane = context.run.tags.get(LANE_TAG, "interactive")
    claims = automatrix.engine.claim(job=context.job_name, lane=lane, run_id=context.run_id)
    context.instance.add_run_tags(context.run_id, {CLAIMED_TAG: str(len(claims))})
    if claims:
        yield dg.Output(_written(claims), metadata={"executions": len(claims)})


@dg.op(out=dg.Out(io_manager_key=BATCHES))
def advance(context: dg.OpExecutionContext, batch: Batch, automatrix: AutomatrixResource) -> Batch:
    """Do this step for every execution of the batch that is ready for it."""
    path = context.op_handle.name
    return _reported(context, automatrix.engine.advance(path, _read(batch)))


@dg.op(out=dg.Out(io_manager_key=BATCHES))
def advance_all(context: dg.OpExecutionContext, batch: Batch, automatrix: AutomatrixResource) -> Batch:
    """Do every step that is ready, whatever the workflow's graph."""
    return _reported(context, automatrix.engine.advance_all(_read(batch)))


@dg.op
def finish(context: dg.OpExecutionContext, batch: Batch, automatrix: AutomatrixResource) -> None:
    """Let go of every execution: over, waiting for somebody, or for a later run."""
    _reported(context, automatrix.engine.finish(_read(batch)))


@dg.op(ins={"finished": dg.In(dg.Nothing)})
def carry_on(context: dg.OpExecutionContext, automatrix: AutomatrixResource) -> None:
    """Take further batches, each execution through all its steps, while there is work and time."""
    lane = context.run.tags.get(LANE_TAG, "interactive")
    until = datetime.now(UTC) + CARRY_ON_FOR
    report = automatrix.engine.carry_on(job=context.job_name, lane=lane, run_id=context.run_id, until=until)
    _reported(context, report)
    context.add_output_metadata({"executions": len(report.claims)})


def template_job(template: CompiledWorkflow) -> dg.JobDefinition:
    """Return a template's job: claim, its steps in order, finish, and on with whatever else is ready."""
    taken = RESERVED & set(template.order)
    if taken:
        raise ConfigurationInvalid(f"template {template.definition.key}: {sorted(taken)} cannot be the id of a step")

    @dg.job(
        name=template.definition.key,
        description=template.definition.name,
        executor_def=dg.in_process_executor,
    )
    def steps_in_order():
        batch = claim()
        for path in template.order:
            batch = advance.alias(path)(batch)
        carry_on(finish(batch))

    return steps_in_order


@dg.job(name=CUSTOM_JOB, executor_def=dg.in_process_executor)
def custom_workflow():
    """Workflows whose graph is no template's, and versions older than a changed template."""
    carry_on(finish(advance_all(claim())))


def _reported(context: dg.OpExecutionContext, report: BatchReport) -> Batch:
    context.log.info(", ".join(f"{count} {outcome}" for outcome, count in sorted(report.outcomes.items())) or "nothing")
    return _written(report.claims)


def _written(claims: Sequence[Claim]) -> Batch:
    return [
        {"organization": str(one.organization_id), "execution": str(one.execution_id), "fence": str(one.fence)}
        for one in claims
    ]


def _read(batch: Batch) -> tuple[Claim, ...]:
    return tuple(Claim(UUID(one["organization"]), UUID(one["execution"]), int(one["fence"])) for one in batch)
