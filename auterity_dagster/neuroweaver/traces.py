"""What the gateway wrote for workflows and what people made of it, as rows to learn from."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from auterity_dagster.errors import Invalid
from auterity_dagster.neuroweaver.example import Family
from auterity_dagster.neuroweaver.importing import RawRow
from auterity_dagster.prompt import PromptTemplate


@dataclass(frozen=True, slots=True)
class Trace:
    """One answered prompt of a workflow that ended well.

    `approved` is the text that a person let go out; None where nobody was asked.
    """

    execution_id: UUID
    dealership_id: UUID
    subject: str
    customer: str
    customer_name: str | None
    prompt_key: str
    values: Mapping[str, str]
    reply: str
    approved: str | None
    created_at: datetime


def trace_row(trace: Trace, prompts: Mapping[str, PromptTemplate]) -> RawRow | None:
    """Return a trace as a row under today's prompt; None for a task that nobody trains, or values that no longer fit.

    What a person approved as it was is `accepted`; what a person changed is `edited`, and its answer is the person's.
    """
    prompt = prompts.get(trace.prompt_key)
    if prompt is None or trace.prompt_key not in tuple(Family):
        return None
    try:
        system, user = prompt.render(trace.values)
    except Invalid:
        return None
    answer = trace.reply if trace.approved is None else trace.approved
    is_edited = answer != trace.reply
    return RawRow(
        family=trace.prompt_key,
        messages=(
            {"role": "system", "content": system},
            {"role": "user", "content": user},
            {"role": "assistant", "content": answer},
        ),
        customer=trace.customer,
        conversation=str(trace.execution_id),
        vehicle=None,
        lead=trace.subject,
        label="edited" if is_edited else "accepted" if trace.approved is not None else "none",
        source="approval_edit" if is_edited else "gateway_trace",
        created_at=trace.created_at,
        names=() if trace.customer_name is None else (trace.customer_name,),
    )
