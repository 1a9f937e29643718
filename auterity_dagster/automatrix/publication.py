"""From a definition to a compiled workflow: every reference, expression and input is checked before it can run."""

import json
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from pydantic import BaseModel, ValidationError

from auterity_dagster.automatrix.binding import Binding, bind, expressions
from auterity_dagster.automatrix.compiled_workflow import Case, CompiledLoop, CompiledStep, CompiledWorkflow
from auterity_dagster.automatrix.definition_check import PREVIOUS, problems_of
from auterity_dagster.automatrix.document import DEFINITION_LIMIT_BYTES, read_document
from auterity_dagster.automatrix.expression import Expression, ExpressionEngine, ExpressionFailed
from auterity_dagster.automatrix.inputs import INPUTS, authority_of
from auterity_dagster.automatrix.workflow import (
    SENDING,
    BodyStep,
    EventTrigger,
    Step,
    StepKind,
    WorkflowDefinition,
    digest_of,
    needs_of,
)
from auterity_dagster.errors import Invalid
from auterity_dagster.prompt import PromptTemplate

AUTHORITY_ROOTS = frozenset({"event", "vars", "execution"})
"""Whom a message reaches and who decides comes from here, never from a step: a step's output may be a model's."""


class DefinitionInvalid(Invalid):
    """A definition breaks a rule; `details["problems"]` lists every one with its place."""

    code = "definition_invalid"

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("; ".join(problems), problems=problems)
        self.problems = problems


def compile_text(text: str, engine: ExpressionEngine) -> CompiledWorkflow:
    """Compile a YAML or JSON document. Raises `DefinitionInvalid` or `Invalid`."""
    return compile_document(read_document(text), engine)


def compile_document(document: Mapping[str, Any], engine: ExpressionEngine) -> CompiledWorkflow:
    """Check and compile a definition. Raises `DefinitionInvalid` with every problem found."""
    plain = dict(document)
    try:
        text = json.dumps(plain)
        if len(text) > DEFINITION_LIMIT_BYTES:
            raise Invalid(f"a definition may have {DEFINITION_LIMIT_BYTES} bytes", code="definition_too_large")
        definition = WorkflowDefinition.model_validate_json(text)
    except ValidationError as error:
        raise DefinitionInvalid(_problems(plain, error)) from error
    except (TypeError, ValueError, RecursionError) as error:
        raise DefinitionInvalid((f"only JSON values are allowed: {error}",)) from error
    problems = tuple(problems_of(definition))
    if problems:
        raise DefinitionInvalid(problems)
    compiled = _Compiler(definition, engine)
    steps = compiled.steps()
    filters = compiled.filters()
    key = compiled.key()
    outputs = compiled.outputs()
    slot_key = compiled.slot_key()
    on_failure = compiled.on_failure()
    if compiled.problems:
        raise DefinitionInvalid(tuple(compiled.problems))
    return CompiledWorkflow(definition, plain, digest_of(plain), steps, filters, key, outputs, slot_key, on_failure)


def check_prompts(workflow: CompiledWorkflow, prompts: Mapping[str, PromptTemplate]) -> None:
    """Raise `DefinitionInvalid` if a step names a prompt that does not exist, or fills it wrongly."""
    problems: list[str] = []
    for compiled in workflow.every():
        name = compiled.step.id
        given = _placeholders_given(compiled.step)
        if given is None:
            continue
        key = str(compiled.step.inputs.get("prompt") or INPUTS[compiled.step.kind].model_fields["prompt"].default)
        prompt = prompts.get(key)
        if prompt is None:
            problems.append(f"step {name}: there is no prompt {key!r}; there are {', '.join(sorted(prompts))}")
            continue
        if given != set(prompt.placeholders):
            problems.append(
                f"step {name}: prompt {prompt.key} takes {sorted(prompt.placeholders)}, got {sorted(given)}"
            )
    if problems:
        raise DefinitionInvalid(tuple(problems))


def _placeholders_given(step: BodyStep) -> set[str] | None:
    """Return the placeholders that a step fills, None for a kind that asks no model."""
    match step.kind:
        case StepKind.AI_PROMPT:
            return set(cast("dict[str, Any]", step.inputs.get("values") or {})) | {"facts"}
        case StepKind.EXTRACT:
            return {"fields", "text"}
        case _:
            return None


@dataclass(frozen=True, slots=True)
class _Scope:
    """Where an expression stands: the steps that are over by then, and what an item of a `for_each` is called."""

    engine: ExpressionEngine
    before: frozenset[str]
    authority: frozenset[str]


class _Compiler:
    """Compiles one definition and collects what is wrong."""

    def __init__(self, definition: WorkflowDefinition, engine: ExpressionEngine) -> None:
        self._definition = definition
        self._bare = _Scope(engine, frozenset(), AUTHORITY_ROOTS)
        self._variables = frozenset(one.name for one in definition.variables)
        self.problems: list[str] = []

    def steps(self) -> Mapping[str, CompiledStep]:
        """Compile every step."""
        before = _ancestors(self._definition.steps)
        return {
            step.id: self._top(step, replace(self._bare, before=before[step.id])) for step in self._definition.steps
        }

    def key(self) -> Expression | None:
        """Compile the expression whose text makes an execution the only one of its kind."""
        return self.expression("idempotency_key", self._definition.idempotency_key, self._bare)

    def outputs(self) -> Mapping[str, Binding]:
        """Compile what the execution gives back when it has finished: every step is over by then."""
        every = frozenset(step.id for step in self._definition.steps)
        return self._inputs("outputs", self._definition.outputs, replace(self._bare, before=every))

    def slot_key(self) -> Expression | None:
        """Compile the expression whose text says which executions do not run side by side."""
        concurrency = self._definition.concurrency
        compiled = self.expression("concurrency: key", concurrency and concurrency.key, self._bare)
        if compiled is not None and compiled.roots - {"event", "vars"}:
            self.problems.append("concurrency: key: only `event` and `vars` are known before an execution exists")
        return compiled

    def on_failure(self) -> Mapping[str, CompiledStep]:
        """Compile the steps before an execution fails: they may look at every step, also at one that never ran."""
        steps = self._definition.on_failure
        before = _ancestors(steps)
        every = frozenset(step.id for step in self._definition.steps)
        return {one.id: self._step(one, replace(self._bare, before=every | before[one.id])) for one in steps}

    def _top(self, step: Step, scope: _Scope) -> CompiledStep:
        compiled = self._step(step, scope)
        if step.items is None or step.name is None or step.max_items is None:
            return compiled
        items = self.expression(f"step {step.id}: items", step.items, scope)
        if items is None:
            return compiled
        is_given = not items.roots - scope.authority and not items.reads_findings
        inner = replace(
            scope,
            engine=scope.engine.with_names(frozenset({step.name, PREVIOUS})),
            authority=scope.authority | ({step.name} if is_given else frozenset()),
        )
        condition = self.expression(f"step {step.id}: while", step.condition, inner, is_boolean=True)
        before = _ancestors(step.steps)
        body = {one.id: self._step(one, replace(inner, before=scope.before | before[one.id])) for one in step.steps}
        return replace(compiled, loop=CompiledLoop(items, step.max_items, step.name, condition, body))

    def _step(self, step: BodyStep, scope: _Scope) -> CompiledStep:
        place = f"step {step.id}"
        when = self.expression(f"{place}: when", step.when, scope, is_boolean=True)
        key = self.expression(f"{place}: idempotency_key", step.idempotency_key, scope)
        if step.kind in SENDING and step.idempotency_key is None:
            self.problems.append(f"{place}: {step.kind} needs an idempotency_key")
        inputs = dict(step.inputs)
        cases = self._cases(place, inputs, scope) if step.kind is StepKind.DECIDE else ()
        bound = self._inputs(place, inputs, scope)
        self._check_inputs(place, step, bound, scope)
        return CompiledStep(step, when, key, bound, cases)

    def filters(self) -> Mapping[str, Expression]:
        """Compile the filters of the event triggers; they see the event and nothing else."""
        found: dict[str, Expression] = {}
        for trigger in self._definition.triggers:
            if isinstance(trigger, EventTrigger) and trigger.filter is not None:
                place = f"trigger {trigger.id}: filter"
                compiled = self.expression(place, trigger.filter, self._bare, is_boolean=True)
                if compiled is not None:
                    found[trigger.id] = compiled
                    if compiled.roots - {"event"}:
                        self.problems.append(f"{place}: only `event` is known before an execution exists")
        return found

    def expression(
        self, place: str, source: str | None, scope: _Scope, *, is_boolean: bool = False
    ) -> Expression | None:
        """Compile one expression and check the steps that it reads."""
        if source is None:
            return None
        try:
            compiled = scope.engine.compile(source)
        except ExpressionFailed as error:
            self.problems.append(f"{place}: {error.message}")
            return None
        if is_boolean and not compiled.is_boolean:
            self.problems.append(f"{place}: {source!r} gives no truth value, one was expected")
        self._check_references(place, compiled, scope.before)
        return compiled

    def _check_references(self, place: str, compiled: Expression, before: frozenset[str]) -> None:
        for step_id in sorted(compiled.step_ids - before):
            self.problems.append(f"{place}: reads step {step_id!r}, which is not over by then")
        for name in sorted(compiled.variable_names - self._variables):
            self.problems.append(f"{place}: reads variable {name!r}, which is not declared")

    def _cases(self, place: str, inputs: dict[str, Any], scope: _Scope) -> tuple[Case, ...]:
        cases: list[Case] = []
        for number, case in enumerate(cast("list[Any]", inputs.get("cases") or []), start=1):
            entry = cast("dict[str, Any]", case) if isinstance(case, dict) else {}
            source = entry.get("when")
            if not isinstance(source, str):
                self.problems.append(f"{place}: case {number} has no `when`")
                continue
            when = self.expression(f"{place}: case {number}", source, scope, is_boolean=True)
            if when is not None:
                cases.append(Case(str(entry.get("choice")), when, entry.get("stop") is True))
        return tuple(cases)

    def _inputs(self, place: str, inputs: Mapping[str, Any], scope: _Scope) -> Mapping[str, Binding]:
        bound: dict[str, Binding] = {}
        for name, value in inputs.items():
            try:
                bound[name] = bind(value, scope.engine)
            except ExpressionFailed as error:
                self.problems.append(f"{place}: {name}: {error.message}")
                continue
            for one in expressions(bound[name]):
                self._check_references(f"{place}: {name}", one, scope.before)
        return bound

    def _check_inputs(self, place: str, step: BodyStep, bound: Mapping[str, Binding], scope: _Scope) -> None:
        model = INPUTS[step.kind]
        known = {one.alias or name: one for name, one in model.model_fields.items()}
        for name in sorted(set(step.inputs) - set(known)):
            self.problems.append(f"{place}: {step.kind} takes no {name!r}; it takes {', '.join(known)}")
        for name, one in known.items():
            if one.is_required() and name not in step.inputs:
                self.problems.append(f"{place}: {step.kind} needs {name!r}")
        for name in authority_of(model) & set(bound):
            for one in expressions(bound[name]):
                if one.roots - scope.authority:
                    self.problems.append(f"{place}: {name} may come from the event or a variable, never from a step")
                elif one.reads_findings:
                    self.problems.append(f"{place}: {name} may come from `event.data`, never from `event.findings`")
        literals = {name for name, one in bound.items() if not any(True for _ in expressions(one))}
        self._check_literals(place, model, step.inputs, literals)

    def _check_literals(
        self, place: str, model: type[BaseModel], inputs: Mapping[str, Any], literals: Container[object]
    ) -> None:
        """Hold what is written out to the kind's model; what an expression will give is checked when it ran."""
        try:
            model.model_validate(inputs)
        except ValidationError as error:
            for one in error.errors():
                is_literal = not one["loc"] or one["loc"][0] in literals
                if is_literal and one["type"] not in ("missing", "extra_forbidden"):
                    where = ".".join(str(part) for part in one["loc"])
                    self.problems.append(": ".join(part for part in (place, where, one["msg"]) if part))


def _ancestors(steps: Sequence[BodyStep]) -> Mapping[str, frozenset[str]]:
    found: dict[str, frozenset[str]] = {}
    for index, step in enumerate(steps):
        needs = needs_of(steps, index)
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
    names: list[str] = []
    around: Mapping[str, Any] | None = document
    while len(place) >= 2 and place[0] == "steps" and place[1].isdigit() and around is not None:
        number = int(place[1])
        steps = around.get("steps")
        step = cast("list[Any]", steps)[number] if isinstance(steps, list) else None
        around = cast("dict[str, Any]", step) if isinstance(step, dict) else None
        name = around.get("id") if around is not None else None
        names.append(f"step {name}" if isinstance(name, str) else f"step {number + 1}")
        del place[:2]
    if error["type"] == "extra_forbidden":
        return f"{'.'.join([*names, *place[:-1]]) or 'definition'}: unknown key {place[-1]!r}"
    return f"{': '.join([*names, *place]) or 'definition'}: {error['msg']}"
