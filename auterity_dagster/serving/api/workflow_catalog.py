"""What the API needs to check a definition: the shipped templates, the prompts, the expression engine."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from auterity_dagster.automatrix.compiled_workflow import CompiledWorkflow
from auterity_dagster.automatrix.expression import CelEngine, ExpressionEngine
from auterity_dagster.automatrix.publication import check_prompts, compile_document
from auterity_dagster.automatrix.template import job_of, load_templates
from auterity_dagster.errors import NotFound
from auterity_dagster.prompt import PromptTemplate, load_prompts


@dataclass(frozen=True, slots=True)
class WorkflowCatalog:
    """Read once, when the process is composed."""

    templates: Mapping[str, CompiledWorkflow]
    prompts: Mapping[str, PromptTemplate]
    expressions: ExpressionEngine

    def template(self, key: str) -> CompiledWorkflow:
        """Raises `NotFound`."""
        if key not in self.templates:
            raise NotFound(f"there is no template {key!r}; there are {', '.join(self.templates)}")
        return self.templates[key]

    def compiled(self, document: Mapping[str, Any]) -> CompiledWorkflow:
        """Return a definition that may be published. Raises `DefinitionInvalid`."""
        workflow = compile_document(document, self.expressions)
        check_prompts(workflow, self.prompts)
        return workflow

    def job(self, workflow: CompiledWorkflow) -> str:
        """Return the Dagster job that runs a workflow."""
        return job_of(workflow, self.templates)


def load_catalog(config_dir: Path) -> WorkflowCatalog:
    """Raises `ConfigurationInvalid`."""
    expressions = CelEngine()
    return WorkflowCatalog(
        templates=load_templates(config_dir / "workflows", expressions),
        prompts=load_prompts(config_dir / "prompts"),
        expressions=expressions,
    )
