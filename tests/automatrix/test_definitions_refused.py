"""Bad definitions: each is refused at publication with the place and what was expected."""

from copy import deepcopy
from typing import Any

import pytest

from auterity_dagster.automatrix.expression import CelEngine, ExpressionFailed
from auterity_dagster.automatrix.publication import DefinitionInvalid, check_prompts, compile_document, compile_text
from auterity_dagster.automatrix.schedule import next_fire_at
from auterity_dagster.automatrix.workflow import digest_of
from auterity_dagster.errors import Invalid
from auterity_dagster.prompt import load_prompts
from tests.fakes.workflow_world import CONFIG, NOON

CEL = CelEngine()
GOOD: dict[str, Any] = {
    "api_version": "automatrix/v1",
    "key": "own",
    "name": "Own",
    "variables": [{"name": "role", "type": "role", "default": "manager"}],
    "triggers": [{"id": "lead", "type": "event", "event": "lead.received"}],
    "steps": [
        {"id": "pick", "kind": "decide", "with": {"cases": [{"choice": "a", "when": "true"}], "else": "b"}},
        {
            "id": "sms", "kind": "send_sms", "idempotency_key": "execution.id",
            "with": {"contact_id": "${{ event.data.contact_id }}", "purpose": "inquiry_reply", "body": "Hi"},
        },
    ],
}  # fmt: skip

PLAIN = {"id": "one", "kind": "assign_task", "with": {"role": "manager", "title": "t", "due": "PT1M"}}


def loop(*, as_: str | None = "vehicle", **changes: Any) -> dict[str, Any]:
    step = {
        "id": "each", "kind": "for_each", "items": "event.data.vehicles", "as": as_, "max_items": 3, "steps": [PLAIN],
    }  # fmt: skip
    return {name: value for name, value in {**step, **changes}.items() if value is not None}


def changed(path: str, value: Any) -> dict[str, Any]:
    document = deepcopy(GOOD)
    *way, last = path.split(".")
    place: Any = document
    for part in way:
        place = place[int(part)] if part.isdigit() else place[part]
    place[int(last) if last.isdigit() else last] = value
    return document


def problems(error: DefinitionInvalid) -> tuple[str, ...]:
    found = error.details["problems"]
    assert isinstance(found, tuple)
    return found


def test_the_good_one_compiles() -> None:
    assert compile_document(GOOD, CEL).order == ("pick", "sms")


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        ("on", 1, "definition: unknown key 'on'"),
        ("steps.0.wen", "true", "step pick: unknown key 'wen'"),
        ("steps.0.kind", "run_python", "step pick: kind: there is no step kind 'run_python'; there are ai_prompt, "),
        ("steps.1.timeout", "20s", "step sms: timeout: '20s' is not a duration such as 'PT20S', 'PT5M' or 'P3D'"),
        ("steps.1.id", "pick", "steps: 'pick' stands there twice"),
        ("steps.1.needs", ["nobody"], "step sms: needs 'nobody', which is no step"),
        ("steps.0.needs", ["sms"], "step pick: needs 'sms', which does not stand before it"),
        ("steps.1.when", "steps.pick.output.choice", None),
        ("steps.1.when", "'yes'", "step sms: when: \"'yes'\" gives no truth value, one was expected"),
        ("steps.0.when", "steps.sms.status == 'x'", "step pick: when: reads step 'sms', which is not over by then"),
        ("steps.1.when", "vars.nope", "step sms: when: reads variable 'nope', which is not declared"),
        ("steps.1.when", "now() > 1", "step sms: when: 'now() > 1': the function `now` is not known; there are "),
        ("steps.1.when", "evnt.data.x", "undeclared reference to 'evnt.data.x'"),
        ("steps.1.when", "steps['pick'].status == 'x'", "name the step, as in `steps.draft.output`"),
        ("steps.1.when", "[1].all(x, x > 0)", "the macro `all` is not allowed: no loops"),
        ("steps.1.idempotency_key", None, "step sms: send_sms needs an idempotency_key"),
        ("steps.1.with.phone", "+1900", "step sms: send_sms takes no 'phone'; it takes contact_id, purpose, "),
        ("steps.1.with.body", "${{ event.data.x ", "step sms: body: '${{ event.data.x ': `${{` without its `}}`"),
        ("steps.1.with.contact_id", "${{ steps.pick.output.choice }}",
         "step sms: contact_id may come from the event or a variable, never from a step"),
        ("steps.1.with.contact_id", "${{ event.findings.contact_id }}",
         "step sms: contact_id may come from `event.data`, never from `event.findings`"),
        ("steps.1.with.contact_id", "${{ event['data'].contact_id }}", "never from `event.findings`"),
        ("steps.0", {"id": "pick", "kind": "wait"}, "step pick: a wait needs `for`, `until` or `event`"),
        ("steps.0", {"id": "pick", "kind": "wait", "with": {"for": "PT1H", "until": "10:00"}}, "exclude each other"),
        ("steps.0", {"id": "pick", "kind": "wait", "with": {"for": "P401D"}}, "more than nothing and at most P400D"),
        ("steps.0", {"id": "pick", "kind": "wait", "with": {"for": "P4D"}},
         "step pick: waits P4D, the workflow's own timeout is P3D"),
        ("steps.0", {"id": "pick", "kind": "wait", "with": {"until": "10:00", "match": {"a": 1}}}, "belongs to an"),
        ("steps.0", {"id": "pick", "kind": "emit_event", "with": {"type": "lead.received"}},
         "step pick: type: lead.received comes from outside only"),
        ("steps.0", {"id": "pick", "kind": "emit_event", "with": {"type": "X"}}, "step pick: type: String should"),
        ("steps.0", {"id": "pick", "kind": "approval",
                     "with": {"role": "owner", "title": "t", "expires": "P1D", "other_than": "sms"}},
         "step pick: other_than: 'sms' is no approval before it"),
        ("steps.0", loop(as_=None), "step each: a for_each needs as"),
        ("steps.0", loop(max_items=501), "step each: max_items: Input should be less than or equal to 500"),
        ("steps.0", loop(steps=[]), "step each: a for_each needs steps"),
        ("steps.0", loop(steps=[loop()]), "kind: a for_each cannot stand inside another one"),
        ("steps.0", loop(as_="event"), "step each: an item cannot be called 'event', that word means something else"),
        ("steps.0", loop(items="steps.sms.output"), "step each: items: reads step 'sms', which is not over by then"),
        ("steps.0", {**loop(), "while": "previous == null", "max_concurrency": 2}, "so max_concurrency must be 1"),
        ("steps.0", loop(max_items=500, steps=[{**PLAIN, "id": f"s{number}"} for number in range(5)]),
         "these are 2502 attempts without one retry, an execution has 2000"),
        ("steps.0", loop(steps=[{**PLAIN, "wen": "true"}]), "step each.step one: unknown key 'wen'"),
        ("steps.0", loop(steps=[{**PLAIN, "id": "sms"}]), "steps: 'sms' stands there twice"),
        ("steps.0", {**loop(), "kind": "decide"}, "only a for_each has that, this is decide"),
        ("steps.1.when", "vehicle.vin != ''", "undeclared reference to 'vehicle"),
        ("timeout", "P401D", "timeout: more than nothing and at most P400D"),
        ("triggers.0.filter", "vars.role == 'x'",
         "trigger lead: filter: only `event` is known before an execution exists"),
        ("triggers", [{"id": "n", "type": "schedule", "cron": "61 * * * *", "audience": "vehicles_due_for_service"}],
         "trigger n: cron: '61' is no minute between 0 and 59"),
        ("triggers", [{"id": "n", "type": "schedule", "cron": "1 2 * * *", "audience": "everybody"}],
         "audience: there is no audience 'everybody'; there are vehicles_due_for_service, "),
        ("variables.0.default", True, "variable role is of type role, got True"),
        ("variables.0", {"name": "pause", "type": "duration", "default": "1 day"},
         "variable pause is of type duration, got '1 day'"),
        ("variables.0", {"name": "crm", "type": "connection", "default": "https://crm.example"},
         "variable crm is of type connection, got 'https://crm.example'"),
        ("api_version", "automatrix/v2", "api_version: Input should be 'automatrix/v1'"),
    ],
)  # fmt: skip
def test_each_mistake_is_named_with_its_place(path: str, value: Any, problem: str | None) -> None:
    document = changed(path, value)

    if problem is None:
        compile_document(document, CEL)
        return
    with pytest.raises(DefinitionInvalid) as caught:
        compile_document(document, CEL)
    assert any(problem in one for one in problems(caught.value)), problems(caught.value)


def test_every_problem_is_told_at_once() -> None:
    document = changed("steps.0.kind", "nope")
    document["extra"] = True

    with pytest.raises(DefinitionInvalid) as caught:
        compile_document(document, CEL)

    assert len(problems(caught.value)) == 2


def test_yaml_1_2_keeps_words_as_they_look() -> None:
    text = """
api_version: automatrix/v1
key: own
name: "NO"
triggers: [{id: on, type: event, event: lead.received}]
steps: [{id: yes, kind: assign_task, with: {role: manager, title: 10:00, due: PT5M}}]
"""

    compiled = compile_text(text, CEL)

    assert compiled.order == ("yes",)
    assert compiled.definition.steps[0].inputs["title"] == "10:00"


@pytest.mark.parametrize(
    "text",
    [
        "a: [",
        "just text",
        "a: &a [1]\nb: *a",
        "[" * 5000,
        "{" * 5000,
        "!!python/object/apply:os.system ['true']",
        "x: " + "y" * 300_000,
    ],
)
def test_what_is_no_definition_is_refused_and_runs_nothing(text: str) -> None:
    with pytest.raises(Invalid):
        compile_text(text, CEL)


def test_a_recipient_may_be_an_item_of_the_event_and_never_one_that_a_step_found() -> None:
    send = {**GOOD["steps"][1], "id": "one", "with": {**GOOD["steps"][1]["with"], "contact_id": "${{ vehicle.id }}"}}

    compile_document({**GOOD, "steps": [loop(steps=[send])]}, CEL)
    found = {"id": "found", "kind": "inventory_search", "with": {"wanted": []}}
    with pytest.raises(DefinitionInvalid, match="contact_id may come from the event or a variable"):
        compile_document({**GOOD, "steps": [found, loop(items="steps.found.output.items", steps=[send])]}, CEL)


def test_the_digest_does_not_depend_on_how_it_was_written() -> None:
    assert digest_of(GOOD) == digest_of(dict(reversed(GOOD.items())))


def test_an_unknown_prompt_and_wrong_placeholders_are_refused_at_publication() -> None:
    prompts = load_prompts(CONFIG / "prompts")
    step = {"id": "draft", "kind": "ai_prompt", "with": {"prompt": "nope", "facts": {}}}

    with pytest.raises(DefinitionInvalid, match="there is no prompt 'nope'; there are follow_up, lead_reply, "):
        check_prompts(compile_document({**GOOD, "steps": [step]}, CEL), prompts)
    step["with"] = {"prompt": "lead_reply", "facts": {}, "values": {"customer": "x"}}
    with pytest.raises(DefinitionInvalid, match="prompt lead_reply takes"):
        check_prompts(compile_document({**GOOD, "steps": [step]}, CEL), prompts)


@pytest.mark.parametrize(
    "source",
    ["(" * 17 + "1" + ")" * 17, "!" * 20 + "true", "'" + "x" * 2000 + "'", "[[1].map(x, x)].exists(y, true)", "dyn(1)"],
)
def test_what_could_take_long_is_not_even_parsed(source: str) -> None:
    with pytest.raises(ExpressionFailed):
        CEL.compile(source)


@pytest.mark.parametrize("source", ["event.missing", "1 / 0", "event.n + 'x'", "timestamp('2026-01-01T00:00:00Z')"])
def test_an_error_value_is_an_error_and_never_true(source: str) -> None:
    try:
        compiled = CEL.compile(source)
    except ExpressionFailed:
        return

    with pytest.raises(ExpressionFailed):
        compiled.holds({"event": {"n": 1}})


def test_the_text_of_a_literal_is_no_code() -> None:
    assert CEL.compile("'steps[0].map(x)' == event.x").holds({"event": {"x": "steps[0].map(x)"}})


@pytest.mark.parametrize(
    ("cron", "zone", "due"),
    [
        ("30 9 * * 1-6", "America/Chicago", "2026-11-24T15:30:00+00:00"),
        ("0 6 * * *", "America/Chicago", "2026-11-25T12:00:00+00:00"),
        ("*/15 * * * *", "UTC", "2026-11-24T12:15:00+00:00"),
        ("0 0 29 2 *", "UTC", "2028-02-29T00:00:00+00:00"),
        ("0 12 13 * 5", "UTC", "2026-11-27T12:00:00+00:00"),
    ],
)
def test_cron_holds_in_the_dealerships_own_time(cron: str, zone: str, due: str) -> None:
    assert next_fire_at(cron, after=NOON, time_zone=zone).isoformat() == due


@pytest.mark.parametrize("cron", ["* * * *", "60 * * * *", "x * * * *", "0 0 31 2 *", "5-1 * * * *"])
def test_a_wrong_cron_is_refused(cron: str) -> None:
    with pytest.raises(Invalid):
        next_fire_at(cron, after=NOON, time_zone="UTC")
