"""The environment of each process: the shared names, and secrets only for whom they are meant."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from auterity_dagster.embedded.addresses import Urls
from auterity_dagster.embedded.databases import DatabaseUrls
from auterity_dagster.embedded.processes import MARK
from auterity_dagster.errors import ConfigurationInvalid

PROVIDER_CREDENTIALS = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY")
"""Only the gateway calls providers."""

QUIET = {
    "PYTHONSAFEPATH": "1",  # a folder in the working directory must not hide an installed module
    "PYTHONUNBUFFERED": "1",
    "NO_COLOR": "1",
    "MALLOC_ARENA_MAX": "2",
    "HF_HUB_OFFLINE": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Environments:
    """Composes the environments of the processes of one `up`."""

    data_dir: Path
    secrets_dir: Path
    config_dir: Path
    urls: Urls
    databases: DatabaseUrls = field(repr=False)
    redis_url: str = field(repr=False)
    mark: str

    def application(self) -> dict[str, str]:
        """What every process of ours gets."""
        inherited = {name: value for name, value in os.environ.items() if name not in PROVIDER_CREDENTIALS}
        return inherited | QUIET | self.shared() | {MARK: self.mark}

    def shared(self) -> dict[str, str]:
        """The names that all processes and the command line share."""
        return {
            "AUTERITY_DATABASE_URL": self.databases.application,
            "AUTERITY_REDIS_URL": self.redis_url,
            "AUTERITY_DATA_DIR": str(self.data_dir),
            "AUTERITY_SECRETS_DIR": str(self.secrets_dir),
            "AUTERITY_CONFIG_DIR": str(self.config_dir),
        } | url_variables(self.urls)

    def gateway(self) -> dict[str, str]:
        """The application's, and the providers' credentials."""
        return self.application() | {name: os.environ[name] for name in PROVIDER_CREDENTIALS if name in os.environ}

    def dagster(self) -> dict[str, str]:
        """The application's, and where Dagster keeps what it knows."""
        home = self.data_dir / "dagster"
        return self.application() | {
            "DAGSTER_HOME": str(home),
            "AUTERITY_DAGSTER_DATABASE_URL": self.databases.dagster,
            "AUTERITY_DAGSTER_LOGS": str(home / "logs"),
        }

    def mlflow(self) -> dict[str, str]:
        """What MLflow needs, without our own database: it has no users and runs others' code paths."""
        withheld = ("AUTERITY_DATABASE_URL", "AUTERITY_REDIS_URL", "AUTERITY_SECRETS_DIR")
        kept = {name: value for name, value in self.application().items() if name not in withheld}
        return kept | {
            "MLFLOW_BACKEND_STORE_URI": self.databases.mlflow,
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        }


def server_environment() -> dict[str, str]:
    """What PostgreSQL and the Redis-compatible server get: nothing of ours."""
    return {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}


def url_variables(urls: Urls) -> dict[str, str]:
    """The addresses under the names that settings read."""
    return {
        "AUTERITY_GATEWAY_URL": urls.gateway,
        "AUTERITY_API_URL": urls.api,
        "AUTERITY_MODEL_SERVER_URL": urls.model_server,
        "AUTERITY_SANDBOX_URL": urls.sandbox,
        "AUTERITY_MLFLOW_URL": urls.mlflow,
        "AUTERITY_DAGSTER_URL": urls.dagster,
    }


def project_root() -> Path:
    """The folder with `config/` and `deploy/`: the checkout this package lies in."""
    return Path(__file__).resolve().parents[2]


def configuration_folder(given: Path | None) -> Path:
    """The folder an operator edits: as given, or the checkout's. Raises `ConfigurationInvalid` when it is missing."""
    folder = (given or project_root() / "config").resolve()
    if not folder.is_dir():
        raise ConfigurationInvalid(
            f"the configuration folder {folder} does not exist: set AUTERITY_CONFIG_DIR to the one you edit"
        )
    return folder
