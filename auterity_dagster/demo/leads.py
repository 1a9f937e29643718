"""The leads stage: posts the twenty sample documents as signed webhooks, approves what waits, and measures."""

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime
from importlib.resources import files
from typing import Any

import httpx

from auterity_dagster.demo.api_client import ApiClient
from auterity_dagster.demo.results import DealershipAccess, LeadsResult, LeadTimes, QuarantinedLead
from auterity_dagster.demo.stage import DemoContext, StageFailed
from auterity_dagster.serving.webhook_signature import sign

_WORKFLOW = "lead_response"
_PATIENCE_S = 600
_MESSAGE_PREFIX = "demo-"
_FINAL = frozenset({"succeeded", "failed", "cancelled"})


def answer_leads(context: DemoContext) -> None:
    """Post, wait until every execution is over or waits, approve as the manager, and wait again."""
    documents = sample_documents()
    for number, (name, body) in enumerate(documents.items()):
        # The resent document goes to the sender of the first one: a sender's ids are its own.
        dealership = context.organization.dealerships[(number // 10) % 2 if name != "lead_15.xml" else 0]
        _post(context, dealership, name, body)
        context.progress.tell(f"posted {number + 1} of {len(documents)} documents")
    owner, manager = context.owner(), context.manager()
    _wait_until_settled(context, owner, _WORKFLOW)
    approved = approve_everything(context, manager)
    executions = _wait_until_settled(context, owner, _WORKFLOW)
    inbound = owner.get("/inbound", limit=200)["items"]
    states = Counter(execution["state"] for execution in executions)
    context.state.leads = LeadsResult(
        posted=len(documents),
        executions=len(executions),
        succeeded=states["succeeded"],
        failed=states["failed"] + states["cancelled"],
        waiting=sum(count for state, count in states.items() if state not in _FINAL),
        approved=approved,
        duplicates=sum(prospect["state"] == "duplicate" for event in inbound for prospect in event["prospects"]),
        quarantined=tuple(_quarantined(inbound)),
        messages=messages_sent(owner, executions),
        webhook_to_first_step=_times(executions, "first_step_started_at"),
        webhook_to_draft=_times(executions, "draft_finished_at"),
    )


def sample_documents() -> Mapping[str, bytes]:
    """The sample ADF documents by file name, byte for byte."""
    folder = files("auterity_dagster.automatrix").joinpath("samples")
    return {
        entry.name: entry.read_bytes()
        for entry in sorted(folder.iterdir(), key=lambda entry: entry.name)
        if entry.name.endswith(".xml")
    }


def approve_everything(context: DemoContext, manager: ApiClient) -> int:
    """Approve every open approval unchanged; returns how many there were."""
    approved = 0
    while waiting := manager.get("/approvals"):
        for approval in waiting:
            manager.post(f"/approvals/{approval['id']}/decide", {"decision": "approved"})
            approved += 1
            context.progress.tell(f"approved {approved}: {approval['title']}")
    return approved


def wait_for_executions(
    context: DemoContext, api: ApiClient, *, workflow: str, patience_s: float, log_process: str
) -> list[dict[str, Any]]:
    """Look until no execution of the workflow is queued or running; those that wait for a person are let be."""
    deadline = time.monotonic() + patience_s
    while True:
        executions = _every_execution(api, workflow)
        moving = [execution for execution in executions if execution["state"] in ("queued", "running")]
        if not moving:
            return executions
        done = 1 - len(moving) / len(executions)
        context.progress.tell(f"{len(executions) - len(moving)} of {len(executions)} executions settled", done=done)
        if time.monotonic() > deadline:
            raise StageFailed(
                f"{len(moving)} executions of {workflow} did not settle in {patience_s:.0f} s",
                log=context.log(log_process),
            )
        time.sleep(0.5)


def messages_sent(api: ApiClient, executions: Iterable[Mapping[str, Any]]) -> int:
    """Count the confirmed messages of these executions."""
    return sum(
        effect["state"] == "confirmed"
        for execution in executions
        for effect in api.get(f"/executions/{execution['id']}")["effects"]
    )


def _wait_until_settled(context: DemoContext, api: ApiClient, workflow: str) -> list[dict[str, Any]]:
    return wait_for_executions(context, api, workflow=workflow, patience_s=_PATIENCE_S, log_process="dagster-daemon")


def _every_execution(api: ApiClient, workflow: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        page = api.get("/executions", workflow=workflow, limit=100, **({"after": cursor} if cursor else {}))
        found += page["items"]
        cursor = page["next"]
        if cursor is None:
            return found


def _post(context: DemoContext, dealership: DealershipAccess, name: str, body: bytes) -> None:
    now = int(time.time())
    message_id = _MESSAGE_PREFIX + name.removesuffix(".xml")
    headers = {
        "content-type": "application/xml",
        "webhook-id": message_id,
        "webhook-timestamp": str(now),
        "webhook-signature": sign(dealership.hook_secret, message_id=message_id, timestamp=now, body=body),
    }
    answer = httpx.post(dealership.hook_url, content=body, headers=headers, timeout=30)
    if answer.status_code != httpx.codes.ACCEPTED:
        raise StageFailed(f"the webhook refused {name}: {answer.status_code} {answer.text}", log=context.log("api"))


def _quarantined(inbound: list[dict[str, Any]]) -> Iterable[QuarantinedLead]:
    for event in reversed(inbound):
        file = event["message_id"].removeprefix(_MESSAGE_PREFIX) + ".xml"
        if event["reason"] is not None:
            yield QuarantinedLead(file=file, reason=event["reason"], line=event["line"])
        else:
            for prospect in event["prospects"]:
                if prospect["state"] == "quarantined":
                    yield QuarantinedLead(file=file, reason=prospect["reason"], line=None)


def _times(executions: list[dict[str, Any]], moment: str) -> LeadTimes:
    seconds = sorted(
        (datetime.fromisoformat(execution[moment]) - datetime.fromisoformat(execution["received_at"])).total_seconds()
        for execution in executions
        if execution[moment] is not None
    )
    return LeadTimes(count=len(seconds), p50_s=_quantile(seconds, 0.5), p95_s=_quantile(seconds, 0.95))


def _quantile(ordered: list[float], share: float) -> float:
    """The smallest value that `share` of all values do not exceed."""
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else 0.0
