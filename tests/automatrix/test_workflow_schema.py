"""The JSON Schema that editors read says what publication enforces."""

import json

from auterity_dagster.automatrix.workflow import schema_text
from tests.fakes.workflow_world import CONFIG


def test_the_committed_schema_is_the_one_the_code_makes() -> None:
    committed = (CONFIG / "schemas" / "workflow.json").read_text()

    assert committed == schema_text(), "python -c 'from auterity_dagster.automatrix.workflow import schema_text; …'"
    assert json.loads(committed)["additionalProperties"] is False
