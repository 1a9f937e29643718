"""The workflows that ship: read from `config/workflows/`, one file a template, compiled like any other."""

from collections.abc import Mapping
from pathlib import Path

from auterity_dagster.automatrix.compiled_workflow import CompiledWorkflow
from auterity_dagster.automatrix.expression import ExpressionEngine
from auterity_dagster.automatrix.publication import compile_text
from auterity_dagster.errors import ConfigurationInvalid, Invalid

CUSTOM_JOB = "custom_workflow"
"""The job of every workflow whose graph is no template's."""


def load_templates(folder: Path, engine: ExpressionEngine) -> Mapping[str, CompiledWorkflow]:
    """Read every template, by key. Raises `ConfigurationInvalid` naming the file and everything wrong in it."""
    templates: dict[str, CompiledWorkflow] = {}
    for path in sorted(folder.glob("*.yaml")):
        try:
            template = compile_text(path.read_text(encoding="utf-8"), engine)
        except Invalid as error:
            raise ConfigurationInvalid(f"{path}: {error.message}") from error
        if template.definition.key != path.stem:
            raise ConfigurationInvalid(f"{path}: the key is {template.definition.key!r}, the file must be named alike")
        templates[path.stem] = template
    if not templates:
        raise ConfigurationInvalid(f"{folder}: no workflow template there")
    return templates


def job_of(workflow: CompiledWorkflow, templates: Mapping[str, CompiledWorkflow]) -> str:
    """Return the Dagster job that runs a version: the template's with the same graph, else the general one."""
    graph = workflow.definition.graph_digest
    return next((key for key, one in templates.items() if one.definition.graph_digest == graph), CUSTOM_JOB)
