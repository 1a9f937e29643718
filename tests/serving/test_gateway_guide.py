"""The gateway's guide names files that exist: whoever follows it through the code finds each of them."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("", "auterity_dagster", "auterity_dagster/relaycore", "auterity_dagster/serving/relaycore")
FOLDERS += ("auterity_dagster/storage/repositories",)
"""Where a file may lie that is named without its folder."""


def test_every_file_that_the_guide_names_exists() -> None:
    named = set(re.findall(r"[\w/]+\.py", (ROOT / "docs" / "gateway.md").read_text()))

    missing = [name for name in named if not any((ROOT / folder / name).is_file() for folder in FOLDERS)]

    assert len(named) > 20
    assert missing == []
