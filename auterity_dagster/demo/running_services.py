"""The services the demo runs on: those that already run over the data folder, or new ones on free ports."""

import os
from pathlib import Path

from rich.console import Console

from auterity_dagster.embedded import background
from auterity_dagster.embedded.addresses import choose_free
from auterity_dagster.embedded.announcement import Announcement, read_announcement

_PROVIDER_KEYS = frozenset({"OPENAI_API_KEY", "ANTHROPIC_API_KEY"})


def running_services(data_dir: Path, console: Console) -> Announcement:
    """Return what runs healthy; starts it in the background on free ports when nothing does."""
    announcement = read_announcement(data_dir)
    if announcement is not None:
        console.print(f"Using the services that already run over {data_dir}", highlight=False)
        return announcement
    # The demo must never cost anybody money: no provider outside this machine becomes a candidate.
    environment = {name: value for name, value in os.environ.items() if name not in _PROVIDER_KEYS}
    return background.start(choose_free({}).options(), data_dir=data_dir, environment=environment)


def addresses(announcement: Announcement) -> dict[str, str]:
    """Where a person looks on."""
    urls = announcement.urls
    return {
        "Dagster UI": urls.dagster,
        "MLflow UI": urls.mlflow,
        "API docs": f"{urls.api}/docs",
        "Gateway": f"{urls.gateway}/v1",
    }
