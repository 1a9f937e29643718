"""Trial runs: the engine itself, on what is pinned; waits cost no time, and nothing leaves."""

from typing import Any
from uuid import uuid4

import pytest

from auterity_dagster.automatrix.event import Event
from auterity_dagster.automatrix.trial import TrialOrder, TrialReport, try_out
from auterity_dagster.errors import Invalid
from tests.fakes.workflow_world import CONTACT, NOON, one_step, templates

DRAFT = {"reply": "Saturday 10:00?", "checks": {"ok": True, "violations": []}}
DATA = {
    "kind": "sales", "contact_id": str(CONTACT), "dedupe_key": "k", "customer_name": "Marisol Teague", "comments": "Hi",
    "channel": "sms", "vehicles": [], "flags": [],
}  # fmt: skip


def trial(workflow: Any, pins: dict[str, Any] | None = None, data: Any = None, **settings: Any) -> TrialReport:
    event = Event(uuid4(), "lead.received", uuid4(), uuid4(), "leads/1", NOON, "k", data or DATA)
    return try_out(workflow, TrialOrder(event, settings, pins or {}, "Lakeside Honda", "America/Chicago"))


def states(report: TrialReport) -> dict[str, str]:
    return {path: step.status.value for path, step in report.state.steps.items()}


def test_a_template_on_pinned_outputs_says_what_it_would_send() -> None:
    pins = {"stock": {"items": []}, "draft": DRAFT}

    report = trial(templates()["lead_response"], pins, auto_send=True)

    assert (report.state.status, report.is_triggered) == ("succeeded", True)
    (message,) = report.messages
    assert (message.channel, message.contact_id, message.text) == ("sms", str(CONTACT), "Saturday 10:00?")
    assert states(report)["review"] == "skipped"


def test_an_approval_that_nobody_pinned_expires_at_once_and_a_pinned_one_is_decided() -> None:
    pins = {"stock": {"items": []}, "draft": DRAFT}
    decided = {"decision": "approved", "final": {"reply": "Edited"}, "decided_by": "x", "is_expired": False}

    silent = trial(templates()["lead_response"], pins)
    approved = trial(templates()["lead_response"], {**pins, "review": decided})

    assert (silent.messages, silent.took.days) == ((), 1)
    assert [task.title for task in silent.tasks] == ["Answer Marisol Teague by hand"]
    assert [message.text for message in approved.messages] == ["Edited"]


def test_what_asks_somebody_outside_must_be_pinned_and_can_be_pinned_to_fail() -> None:
    pins = {"stock": {"items": []}}

    unpinned = trial(templates()["lead_response"], pins)
    failed = trial(
        templates()["lead_response"], {**pins, "draft": {"error": {"code": "overloaded", "message": "busy"}}}
    )

    assert unpinned.state.steps["draft"].error is not None
    assert unpinned.state.steps["draft"].error.code == "not_pinned"
    assert failed.state.steps["draft"].attempt == 4
    assert [task.role for task in failed.tasks] == ["manager"]


def test_loops_waits_events_and_the_pin_of_the_definition_itself() -> None:
    inner = [
        {"id": "look", "kind": "inventory_search", "with": {"wanted": []}, "pin": {"items": [1]}},
        {"id": "pause", "kind": "wait", "with": {"for": "P1D"}},
    ]
    loop = {"id": "each", "kind": "for_each", "items": "event.data.list", "as": "one", "max_items": 3, "steps": inner}
    tell = {"id": "tell", "kind": "emit_event", "with": {"type": "list.done", "findings": {"n": 1}}}
    workflow = one_step(loop, tell, outputs={"all": "${{ steps.each.output.items }}"})

    report = trial(workflow, {"each[1].look": {"items": []}}, {"list": [1, 2]})

    assert report.took.days == 2
    assert [one["outputs"]["look"]["items"] for one in report.outputs["all"]] == [[1], []]  # type: ignore[attr-defined]
    assert [event.type for event in report.events] == ["list.done"]


def test_a_pin_of_no_step_is_refused() -> None:
    with pytest.raises(Invalid, match="a pin names 'nope', which is no step; there are "):
        trial(templates()["lead_response"], {"nope": {}})
