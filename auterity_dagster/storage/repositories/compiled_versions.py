"""Published definitions, compiled once a process: an event would otherwise compile every workflow that it starts."""

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from auterity_dagster.automatrix.compiled_workflow import CompiledWorkflow
from auterity_dagster.automatrix.expression import CelEngine
from auterity_dagster.automatrix.publication import compile_document

KEPT = 512


def compiled_version(definition: Mapping[str, Any]) -> CompiledWorkflow:
    """Return a stored definition ready to run. Raises `Invalid` for one that this release refuses."""
    return _compiled(json.dumps(definition, sort_keys=True))


@lru_cache(maxsize=KEPT)
def _compiled(document: str) -> CompiledWorkflow:
    return compile_document(json.loads(document), CelEngine())
