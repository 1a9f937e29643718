"""Dagster's home: its instance file, and a workspace that names our code servers."""

import shutil
from pathlib import Path

from auterity_dagster.embedded.data_folder import write_whole
from auterity_dagster.embedded.ports import LOOPBACK
from auterity_dagster.errors import ConfigurationInvalid


def write_dagster_home(home: Path, *, template: Path, code_servers: dict[str, int]) -> None:
    """Write `dagster.yaml` from the template, and `workspace.yaml` with a gRPC server for each code location."""
    if not template.exists():
        raise ConfigurationInvalid(f"{template} is missing: Dagster's instance file is made from it")
    (home / "logs").mkdir(parents=True, exist_ok=True)
    shutil.copyfile(template, home / "dagster.yaml")
    entries = [
        f"  - grpc_server:\n      host: {LOOPBACK}\n      port: {port}\n      location_name: {name}\n"
        for name, port in code_servers.items()
    ]
    write_whole(home / "workspace.yaml", f"load_from:\n{''.join(entries)}")
