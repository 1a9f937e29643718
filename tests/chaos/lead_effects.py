"""What came of leads that were posted, as it stands in the database and in the messenger's own record; and its checker.

Each lead's customer has a name of its own, which stands in the execution's event, in the task and in the message.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import select

from auterity_dagster.storage.database import BlockingDatabase
from auterity_dagster.storage.tables.workflows import ExecutionRow, SideEffectRow, StepResultRow, TaskRow
from tests.chaos.checkers import Verdict

SENT = ":first"
"""How the workflow's message is keyed: the execution's id, and this."""

ONE_MESSAGE_A_LEAD = {
    "api_version": "automatrix/v1",
    "key": "one_message",
    "name": "One message and one task a lead",
    "triggers": [{"id": "lead", "type": "event", "event": "lead.received", "filter": "event.data.kind == 'sales'"}],
    "idempotency_key": "event.data.dedupe_key",
    "steps": [
        {
            "id": "rule", "kind": "decide",
            "with": {"cases": [{"choice": "asked", "when": "size(event.data.vehicles) > 0"}], "else": "greeted"},
        },
        {
            "id": "sms", "kind": "send_sms", "idempotency_key": f"execution.id + '{SENT}'",
            "with": {
                "contact_id": "${{ event.data.contact_id }}", "purpose": "inquiry_reply",
                "body": "Thank you, ${{ event.data.customer_name }}.",
            },
        },
        {
            "id": "call", "kind": "assign_task",
            "with": {"role": "manager", "title": "Call ${{ event.data.customer_name }}", "due": "PT1H"},
        },
    ],
}  # fmt: skip
STEPS = ("rule", "sms", "call")


@dataclass(frozen=True)
class SentMessage:
    """A line of the messenger's own record."""

    key: str
    message_id: str
    address: str
    text: str


@dataclass(frozen=True)
class Execution:
    """One execution and whose lead it is for."""

    id: UUID
    customer: str
    state: str


@dataclass(frozen=True)
class Effects:
    """Everything that came of the leads; `effects` has state and provider's reference by key."""

    executions: Sequence[Execution]
    done: Mapping[tuple[UUID, str], int]
    tasks: Mapping[UUID, Sequence[str]]
    effects: Mapping[str, tuple[str, str | None]]
    messages: Sequence[SentMessage]


def read_effects(database: BlockingDatabase, organization_id: UUID, messages: Sequence[SentMessage]) -> Effects:
    """Read the organization's rows."""
    with database.begin(organization_id) as session:
        executions = [
            Execution(row.id, str(row.event["data"]["customer_name"]), row.state)
            for row in session.execute(select(ExecutionRow.id, ExecutionRow.event, ExecutionRow.state))
        ]
        done = Counter(
            (row.execution_id, row.path)
            for row in session.execute(
                select(StepResultRow.execution_id, StepResultRow.path).where(StepResultRow.state == "succeeded")
            )
        )
        tasks: dict[UUID, list[str]] = {}
        for row in session.execute(select(TaskRow.execution_id, TaskRow.title)):
            tasks.setdefault(row.execution_id, []).append(row.title)
        effects = {
            row.key: (row.state, row.provider_ref)
            for row in session.execute(select(SideEffectRow.key, SideEffectRow.state, SideEffectRow.provider_ref))
        }
    return Effects(executions, done, tasks, effects, messages)


def every_lead_took_effect_once(customers: Mapping[str, str], found: Effects) -> Verdict:
    """P-13: each customer (name, address) has one finished execution, one message and one task, and nobody else has.

    The messenger's own record equals the journal: the same keys, each once, with the reference that the journal holds.
    """
    reasons: list[str] = []
    per_customer = Counter(one.customer for one in found.executions)
    by_key = {f"{one.id}{SENT}": one for one in found.executions}
    sent = Counter(one.key for one in found.messages)
    _note(reasons, "leads without an execution", [one for one in customers if not per_customer[one]])
    _note(reasons, "leads with several executions", [one for one, count in per_customer.items() if count > 1])
    _note(reasons, "executions of nobody's lead", [one for one in per_customer if one not in customers])
    _note(reasons, "executions that are not finished", [str(one.id) for one in found.executions if one.state != DONE])
    _note(reasons, "messages that were sent twice", [key for key, count in sent.items() if count > 1])
    _note(reasons, "messages that were lost", [key for key in by_key if key not in sent])
    _note(reasons, "messages that belong to nobody", [key for key in sent if key not in by_key])
    _note(
        reasons, "messages to somebody else", [one.key for one in found.messages if _is_astray(one, by_key, customers)]
    )
    recorded = {key: ("confirmed", ref) for key, ref in {one.key: one.message_id for one in found.messages}.items()}
    _note(reasons, "effects that the messenger's record does not bear out", _differing(recorded, found.effects))
    _note(reasons, "steps that were not done once", [
        f"{one.id}:{path}" for one in found.executions for path in STEPS if found.done.get((one.id, path)) != 1
    ])  # fmt: skip
    _note(reasons, "executions without their one task", [
        str(one.id) for one in found.executions if list(found.tasks.get(one.id, ())) != [f"Call {one.customer}"]
    ])  # fmt: skip
    numbers = {"leads": len(customers), "executions": len(found.executions), "messages": len(found.messages)}
    return Verdict("P-13", tuple(reasons), numbers)


DONE = "succeeded"


def _note(reasons: list[str], what: str, which: Sequence[str]) -> None:
    if which:
        reasons.append(f"{len(which)} {what}: {', '.join(sorted(which)[:3])}")


def _is_astray(message: SentMessage, by_key: Mapping[str, Execution], customers: Mapping[str, str]) -> bool:
    execution = by_key.get(message.key)
    if execution is None:
        return False
    return message.address != customers.get(execution.customer) or execution.customer not in message.text


def _differing(
    recorded: Mapping[str, tuple[str, str | None]], effects: Mapping[str, tuple[str, str | None]]
) -> list[str]:
    return [key for key in recorded.keys() | effects.keys() if recorded.get(key) != effects.get(key)]
