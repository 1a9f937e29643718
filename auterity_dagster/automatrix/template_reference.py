"""The reference of shipped templates, written from their own files and samples: `docs/reference/templates.md`."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from auterity_dagster.automatrix.compiled_workflow import CompiledWorkflow
from auterity_dagster.automatrix.duration import duration_text
from auterity_dagster.automatrix.expression import CelEngine
from auterity_dagster.automatrix.template import load_templates
from auterity_dagster.automatrix.workflow import (
    BodyStep,
    EventTrigger,
    ScheduleTrigger,
    StepKind,
    Variable,
)

_HEAD = """# Templates

Written from `config/workflows/` and its samples; a test keeps it current
(`python -m auterity_dagster.automatrix.template_reference config/workflows > docs/reference/templates.md`).

`GET /api/v1/templates` lists them with their whole definitions, and
`POST /api/v1/templates/{key}/install {"variables": {…}}` installs one. Each is a job of its own in the Dagster location
`workflows`. A connection is named by a variable and made beforehand ([connections](../connections.md)): without one
nothing outside is called. What a customer, a reviewer or a service wrote decides about no recipient and no approver,
and every message passes the rules of [compliance](../compliance.md) when it leaves, whoever approved it.

`config/workflows/samples/` has recorded events for each, with what a model, a service and people answer, and what must
come of it; the tests play every one through the real engine.
"""


@dataclass(frozen=True, slots=True)
class SampleLine:
    """What the page tells of a sample."""

    name: str
    expected: Mapping[str, Any]


def template_reference(templates: Mapping[str, CompiledWorkflow], samples: Mapping[str, Sequence[SampleLine]]) -> str:
    """Return the whole page."""
    listed = "\n".join(
        f"- [`{key}`](#{key}): {one.definition.name.lower()}; {', '.join(_starts(one))}"
        for key, one in templates.items()
    )
    sections = "\n".join(_section(key, one, samples.get(key, ())) for key, one in templates.items())
    return f"{_HEAD}\n{listed}\n\n{sections}"


def read_sample_lines(folder: Path, key: str) -> tuple[SampleLine, ...]:
    """Read a template's recorded samples, none if it has no file."""
    path = folder / "samples" / f"{key}.jsonl"
    documents = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
    return tuple(SampleLine(one["name"], one["expected"]) for one in documents)


def _section(key: str, template: CompiledWorkflow, samples: Sequence[SampleLine]) -> str:
    definition = template.definition
    starts = "; ".join(_starts(template))
    return "\n".join(
        [
            f'## <a id="{key}"></a>{definition.name}\n',
            f"`{key}`. {definition.description}\n",
            f"Starts: {starts}. Ends at the latest after {duration_text(definition.timeout)}.\n",
            "| variable | type | default | |",
            "|---|---|---|---|",
            *(_variable(one) for one in definition.variables),
            "",
            "| step | does | when |",
            "|---|---|---|",
            *(_step(one) for one in _steps(template)),
            "",
            "| sample | comes to |",
            "|---|---|",
            *(f"| {one.name} | {_told(one.expected)} |" for one in samples),
            "",
        ]
    )


def _starts(template: CompiledWorkflow) -> Iterator[str]:
    for trigger in template.definition.triggers:
        match trigger:
            case EventTrigger():
                yield f"`{trigger.event}`"
            case ScheduleTrigger():
                yield f"`{trigger.cron}` for `{trigger.audience}`"
            case _:
                yield "by hand" if trigger.type == "manual" else "called by a workflow"


def _variable(variable: Variable) -> str:
    shown = json.dumps(list(variable.default) if isinstance(variable.default, tuple) else variable.default)
    return f"| `{variable.name}` | {variable.type} | `{shown}` | {variable.description} |"


def _steps(template: CompiledWorkflow) -> Iterator[tuple[str, BodyStep]]:
    for step in template.steps.values():
        yield f"`{step.step.id}`", step.step
        for inner in step.loop.body.values() if step.loop is not None else ():
            yield f"`{step.step.id}[…].{inner.step.id}`", inner.step
    for step in template.on_failure.values():
        yield f"before it fails: `{step.step.id}`", step.step


def _step(named: tuple[str, BodyStep]) -> str:
    path, step = named
    when = f"`{' '.join(step.when.split())}`".replace("|", "\\|") if step.when else ""
    return f"| {path} | {_does(step)} | {when} |"


def _does(step: BodyStep) -> str:
    match step.kind:
        case StepKind.AI_PROMPT:
            detail = f", prompt `{step.inputs.get('prompt')}`"
        case StepKind.EXTRACT:
            fields = cast("Mapping[str, object]", step.inputs.get("fields", {}))
            detail = f": {', '.join(fields)}"
        case StepKind.SEND_SMS | StepKind.SEND_EMAIL:
            detail = f", purpose `{step.inputs.get('purpose')}`"
        case StepKind.DECIDE:
            cases = cast("Sequence[Mapping[str, object]]", step.inputs.get("cases", ()))
            choices = dict.fromkeys([*(str(one.get("choice")) for one in cases), str(step.inputs.get("else"))])
            detail = f": {', '.join(choices)}"
        case StepKind.HTTP_REQUEST:
            detail = f", `{step.inputs.get('method', 'GET')} {step.inputs.get('path')}`"
        case _:
            detail = ""
    return f"`{step.kind}`{detail}"


def _told(expected: Mapping[str, Any]) -> str:
    parts = [str(expected.get("state", "")).replace("_", " ")]
    for name, word in (("sent", "sent"), ("held", "held back"), ("tasks", "task"), ("approvals", "approval")):
        values = cast("Sequence[str]", expected.get(name, ()))
        if name in ("sent", "tasks") and values:
            parts.append(
                f"{len(values)} {word}" if name == "sent" else f"{len(values)} {word}{'s' * (len(values) > 1)}"
            )
        elif values:
            parts.append(f"{word}: {', '.join(values).replace('_', ' ')}")
    return ", ".join(part for part in parts if part)


if __name__ == "__main__":
    place = Path(sys.argv[1])
    found = load_templates(place, CelEngine())
    page = template_reference(found, {key: read_sample_lines(place, key) for key in found})
    print(page, end="")  # noqa: T201 -- the page, for the file that holds it
