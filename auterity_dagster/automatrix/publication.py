"""From a definition to a compiled workflow: every reference, expression and input is checked before it can run."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from pydantic import BaseModel, ValidationError

from auterity_dagster.automatrix.binding import Binding, bind, expressions
from auterity_dagster.automatrix.expression import Expression, ExpressionEngine, ExpressionFailed
from auterity_dagster.automatrix.inputs import INPUTS, authority_of
from auterity_dagster.automatrix.schedule import parse_cron
from auterity_dagster.automatrix.workflow import (
    SENDING,
    EventTrigger,
    ScheduleTrigger,
    Step,
    StepKind,
    WorkflowDefinition,
    digest_of,
    read_document,
)
from auterity_dagster.errors import Invalid
from auterity_dagster.prompt import PromptTemplate

AUTHORITY_ROOTS = frozenset({"event", "vars", "execution"})
"""Whom a message reaches and who decides comes from here, never from a step: a step's output may be a model's."""


@dataclass(frozen=True, slots=True)
class Case:
    """One branch of a `decide` step."""

    choice: str
    when: Expression
    stop: bool


@dataclass(frozen=True, slots=True)
class CompiledStep:
    """A step with its expressions compiled."""

    step: Step
    when: Expression | None
    idempotency_key: Expression | None
    inputs: Mapping[str, Binding]
    cases: tuple[Case, ...]


@dataclass(frozen=True, slots=True)
class CompiledWorkflow:
    """A definition that may run; `digest` identifies its content, `document` is what is stored."""

    definition: WorkflowDefinition
    document: Mapping[str, Any]
    digest: str
    steps: Mapping[str, CompiledStep]
    filters: Mapping[str, Expression]
    idempotency_key: Expression | None

    @property
    def order(self) -> tuple[str, ...]:
        """The step ids, each after everything it needs."""
        return tuple(self.steps)


class DefinitionInvalid(Invalid):
    """A definition breaks a rule; `details["problems"]` lists every one with its place."""

    code = "definition_invalid"

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("; ".join(problems), problems=problems)


def compile_text(text: str, engine: ExpressionEngine) -> CompiledWorkflow:
    """Compile a YAML or JSON document. Raises `DefinitionInvalid` or `Invalid`."""
    return compile_document(read_document(text), engine)


def compile_document(document: Mapping[str, Any], engine: ExpressionEngine) -> CompiledWorkflow:
    """Check and compile a definition. Raises `DefinitionInvalid` with every problem found."""
    plain = dict(document)
    try:
        definition = WorkflowDefinition.model_validate_json(json.dumps(plain))
    except ValidationError as error:
        raise DefinitionInvalid(_problems(plain, error)) from error
    except (TypeError, ValueError) as error:
        raise DefinitionInvalid((f"only JSON values are allowed: {error}",)) from error
    problems = [*_graph_problems(definition), *_schedule_problems(definition)]
    if problems:
        raise DefinitionInvalid(tuple(problems))
    compiled = _Compiler(definition, engine)
    steps = {step.id: compiled.step(index) for index, step in enumerate(definition.steps)}
    filters = compiled.filters()
    key = compiled.expression("idempotency_key", definition.idempotency_key, before=frozenset())
    if compiled.problems:
        raise DefinitionInvalid(tuple(compiled.problems))
    return CompiledWorkflow(definition, plain, digest_of(plain), steps, filters, key)


def check_prompts(workflow: CompiledWorkflow, prompts: Mapping[str, PromptTemplate]) -> None:
    """Raise `DefinitionInvalid` if a step names a prompt that does not exist, or fills it wrongly."""
    problems: list[str] = []
    for name, compiled in workflow.steps.items():
        if compiled.step.kind is not StepKind.AI_PROMPT:
            continue
        prompt = prompts.get(str(compiled.step.inputs["prompt"]))
        if prompt is None:
            known = ", ".join(sorted(prompts))
            problems.append(f"step {name}: there is no prompt {compiled.step.inputs['prompt']!r}; there are {known}")
            continue
        given = set(cast("dict[str, Any]", compiled.step.inputs.get("values") or {})) | {"facts"}
        if given != set(prompt.placeholders):
            problems.append(
                f"step {name}: prompt {prompt.key} takes {sorted(prompt.placeholders)}, got {sorted(given)}"
            )
    if problems:
        raise DefinitionInvalid(tuple(problems))


def _graph_problems(definition: WorkflowDefinition) -> Iterator[str]:
    for name, ids in (
        ("variables", [one.name for one in definition.variables]),
        ("triggers", [one.id for one in definition.triggers]),
        ("steps", [one.id for one in definition.steps]),
    ):
        for twice in sorted({one for one in ids if ids.count(one) > 1}):
            yield f"{name}: {twice!r} stands there twice"
    seen: set[str] = set()
    every = {step.id for step in definition.steps}
    for index, step in enumerate(definition.steps):
        for need in definition.needs_of(index):
            if need not in every:
                yield f"step {step.id}: needs {need!r}, which is no step"
            elif need not in seen:
                yield f"step {step.id}: needs {need!r}, which does not stand before it"
        seen.add(step.id)


def _schedule_problems(definition: WorkflowDefinition) -> Iterator[str]:
    for trigger in definition.triggers:
        if isinstance(trigger, ScheduleTrigger):
            try:
                parse_cron(trigger.cron)
            except Invalid as error:
                yield f"trigger {trigger.id}: {error.message}"


class _Compiler:
    """Compiles one definition and collects what is wrong."""

    def __init__(self, definition: WorkflowDefinition, engine: ExpressionEngine) -> None:
        self._definition = definition
        self._engine = engine
        self._before = _ancestors(definition)
        self._variables = frozenset(one.name for one in definition.variables)
        self.problems: list[str] = []

    def step(self, index: int) -> CompiledStep:
        """Compile one step."""
        step = self._definition.steps[index]
        before = self._before[step.id]
        place = f"step {step.id}"
        when = self.expression(f"{place}: when", step.when, before=before, is_boolean=True)
        key = self.expression(f"{place}: idempotency_key", step.idempotency_key, before=before)
        if step.kind in SENDING and step.idempotency_key is None:
            self.problems.append(f"{place}: {step.kind} needs an idempotency_key")
        inputs = dict(step.inputs)
        cases = self._cases(place, inputs, before) if step.kind is StepKind.DECIDE else ()
        bound = self._inputs(place, inputs, before)
        self._check_inputs(place, step, bound)
        return CompiledStep(step, when, key, bound, cases)

    def filters(self) -> Mapping[str, Expression]:
        """Compile the filters of the event triggers; they see the event and nothing else."""
        found: dict[str, Expression] = {}
        for trigger in self._definition.triggers:
            if isinstance(trigger, EventTrigger) and trigger.filter is not None:
                place = f"trigger {trigger.id}: filter"
                compiled = self.expression(place, trigger.filter, before=frozenset(), is_boolean=True)
                if compiled is not None:
                    found[trigger.id] = compiled
                    if compiled.roots - {"event"}:
                        self.problems.append(f"{place}: only `event` is known before an execution exists")
        return found

    def expression(
        self, place: str, source: str | None, *, before: frozenset[str], is_boolean: bool = False
    ) -> Expression | None:
        """Compile one expression and check the steps that it reads."""
        if source is None:
            return None
        try:
            compiled = self._engine.compile(source)
        except ExpressionFailed as error:
            self.problems.append(f"{place}: {error.message}")
            return None
        if is_boolean and not compiled.is_boolean:
            self.problems.append(f"{place}: {source!r} gives no truth value, one was expected")
        self._check_references(place, compiled, before)
        return compiled

    def _check_references(self, place: str, compiled: Expression, before: frozenset[str]) -> None:
        for step_id in sorted(compiled.step_ids - before):
            self.problems.append(f"{place}: reads step {step_id!r}, which is not over by then")
        for name in sorted(compiled.variable_names - self._variables):
            self.problems.append(f"{place}: reads variable {name!r}, which is not declared")

    def _cases(self, place: str, inputs: dict[str, Any], before: frozenset[str]) -> tuple[Case, ...]:
        cases: list[Case] = []
        for number, case in enumerate(cast("list[Any]", inputs.get("cases") or []), start=1):
            entry = cast("dict[str, Any]", case) if isinstance(case, dict) else {}
            source = entry.get("when")
            if not isinstance(source, str):
                self.problems.append(f"{place}: case {number} has no `when`")
                continue
            when = self.expression(f"{place}: case {number}", source, before=before, is_boolean=True)
            if when is not None:
                cases.append(Case(str(entry.get("choice")), when, entry.get("stop") is True))
        return tuple(cases)

    def _inputs(self, place: str, inputs: Mapping[str, Any], before: frozenset[str]) -> Mapping[str, Binding]:
        bound: dict[str, Binding] = {}
        for name, value in inputs.items():
            try:
                bound[name] = bind(value, self._engine)
            except ExpressionFailed as error:
                self.problems.append(f"{place}: {name}: {error.message}")
                continue
            for one in expressions(bound[name]):
                self._check_references(f"{place}: {name}", one, before)
        return bound

    def _check_inputs(self, place: str, step: Step, bound: Mapping[str, Binding]) -> None:
        model = INPUTS[step.kind]
        known = {one.alias or name: one for name, one in model.model_fields.items()}
        for name in sorted(set(step.inputs) - set(known)):
            self.problems.append(f"{place}: {step.kind} takes no {name!r}; it takes {', '.join(known)}")
        for name, one in known.items():
            if one.is_required() and name not in step.inputs:
                self.problems.append(f"{place}: {step.kind} needs {name!r}")
        for name in authority_of(model) & set(bound):
            for one in expressions(bound[name]):
                if one.roots - AUTHORITY_ROOTS:
                    self.problems.append(f"{place}: {name} may come from the event or a variable, never from a step")
        if not any(True for one in bound.values() for _ in expressions(one)):
            self._check_literals(place, model, step.inputs)

    def _check_literals(self, place: str, model: type[BaseModel], inputs: Mapping[str, Any]) -> None:
        try:
            model.model_validate(inputs)
        except ValidationError as error:
            for one in error.errors():
                if one["type"] not in ("missing", "extra_forbidden"):
                    where = ".".join(str(part) for part in one["loc"])
                    self.problems.append(f"{place}: {where}: {one['msg']}")


def _ancestors(definition: WorkflowDefinition) -> Mapping[str, frozenset[str]]:
    found: dict[str, frozenset[str]] = {}
    for index, step in enumerate(definition.steps):
        needs = definition.needs_of(index)
        found[step.id] = frozenset(needs).union(*(found[need] for need in needs))
    return found


def _problems(document: Mapping[str, Any], error: ValidationError) -> tuple[str, ...]:
    """One sentence a problem; a list that is too short because its items are wrong is not told twice."""
    found = error.errors()
    inner = {one["loc"][:-1] for one in found} | {one["loc"][:1] for one in found if len(one["loc"]) > 1}
    told = [one for one in found if not (one["type"] == "too_short" and one["loc"] in inner)]
    return tuple(_problem(document, one) for one in told)


def _problem(document: Mapping[str, Any], error: Any) -> str:
    place = [str(part) for part in error["loc"]]
    steps = document.get("steps")
    if len(place) >= 2 and place[0] == "steps" and place[1].isdigit() and isinstance(steps, list):
        step = cast("list[Any]", steps)[int(place[1])]
        name = cast("dict[str, Any]", step).get("id") if isinstance(step, dict) else None
        place[:2] = [f"step {name}" if isinstance(name, str) else f"step {int(place[1]) + 1}"]
    if error["type"] == "extra_forbidden":
        return f"{'.'.join(place[:-1]) or 'definition'}: unknown key {place[-1]!r}"
    return f"{': '.join(place)}: {error['msg']}"
