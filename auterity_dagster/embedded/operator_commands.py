"""What an operator does beside `up`: migrate, check, run one server."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError
from pydantic_settings import BaseSettings

from auterity_dagster.embedded.commands import app_command, mlflow_command
from auterity_dagster.embedded.composition import require_redis
from auterity_dagster.embedded.configuration_check import configuration_problems
from auterity_dagster.embedded.data_folder import DataFolder, owned
from auterity_dagster.embedded.databases import (
    OWN_DATABASE,
    create_own_database,
    database_urls,
    migrate_database,
    prepare_guests,
    require_reachable,
)
from auterity_dagster.embedded.environment import QUIET, configuration_folder
from auterity_dagster.embedded.postgres import start_postgres
from auterity_dagster.embedded.secrets import ensure_secrets
from auterity_dagster.errors import AuterityError, ConfigurationInvalid
from auterity_dagster.settings import SecretSettings, StorageSettings, UpSettings

Settings = TypeVar("Settings", bound=BaseSettings)

NEEDED: Mapping[str, tuple[type[BaseSettings], ...]] = {
    "gateway": (StorageSettings, SecretSettings),
    "api": (StorageSettings, SecretSettings),
    "models": (SecretSettings,),
    "sandbox": (SecretSettings,),
}


def up_settings(*, data_dir: Path | None) -> UpSettings:
    """The settings of `up`, the option before the environment. Raises `ConfigurationInvalid`, one line a problem."""
    return _read(UpSettings if data_dir is None else lambda: UpSettings(data_dir=data_dir))


def migrate(settings: UpSettings) -> str:
    """Bring the database to the newest version (the embedded one is started for it); return what was done."""
    folder = DataFolder(settings.data_dir.resolve())
    folder.prepare()
    secrets_dir = (settings.secrets_dir or folder.root / "secrets").resolve()
    ensure_secrets(secrets_dir)
    if settings.database_url is not None:
        urls = database_urls(settings.database_url.get_secret_value(), secrets_dir=secrets_dir)
        prepare_guests(urls, secrets_dir=secrets_dir)
        migrate_database(urls, secrets_dir=secrets_dir)
        return "the database in AUTERITY_DATABASE_URL is at the newest version"
    with owned(folder):
        server = start_postgres(folder.root / "postgres")
        try:
            create_own_database(server.url())
            migrate_database(database_urls(server.url(OWN_DATABASE), secrets_dir=secrets_dir), secrets_dir=secrets_dir)
        finally:
            server.stop()
    return f"the embedded database in {folder.root} is at the newest version"


def problems(settings: UpSettings) -> tuple[str, ...]:
    """Everything that would keep `auterity up` from starting, as far as it can be seen without starting it."""
    found: list[str] = []

    def attempt(check: Callable[[], object]) -> None:
        try:
            check()
        except AuterityError as error:
            found.append(error.message)

    try:
        found.extend(configuration_problems(configuration_folder(settings.config_dir)))
    except ConfigurationInvalid as error:
        found.append(error.message)
    secrets_dir = settings.secrets_dir or settings.data_dir / "secrets"
    if secrets_dir.exists():
        attempt(lambda: ensure_secrets(secrets_dir))
    if (database_url := settings.database_url) is not None:
        attempt(lambda: require_reachable(database_url.get_secret_value()))
    if (redis_url := settings.redis_url) is not None:
        attempt(lambda: require_redis(redis_url.get_secret_value()))
    return tuple(found)


def serve_app(app: str, *, host: str, port: int) -> None:
    """Become the server. Raises `ConfigurationInvalid` when the environment lacks something."""
    for settings in NEEDED[app]:
        _read(settings)
    _become(app_command(app, host=host, port=port))


def serve_mlflow(*, host: str, port: int, artifacts: Path) -> None:
    """Become MLflow's server; MLFLOW_BACKEND_STORE_URI names its database."""
    if "MLFLOW_BACKEND_STORE_URI" not in os.environ:
        raise ConfigurationInvalid("MLFLOW_BACKEND_STORE_URI is not set: postgresql+psycopg2://user:…@host:5432/mlflow")
    _become(mlflow_command(host=host, port=port, artifacts=artifacts.resolve()))


def _read(settings: Callable[[], Settings]) -> Settings:
    try:
        return settings()
    except ValidationError as error:
        lines = (f"AUTERITY_{str(part['loc'][0]).upper()}: {part['msg']}" for part in error.errors(include_input=False))
        raise ConfigurationInvalid("; ".join(lines)) from error


def _become(command: tuple[str, ...]) -> None:
    os.execve(command[0], command, os.environ | QUIET)  # noqa: S606 (a list, and no shell)
