"""This installation as NeuroWeaver sees it: its files, its keys, and the addresses of the servers beside it."""

from pathlib import Path

import dagster as dg

from auterity_dagster.identity.secret_file import read_pepper, read_secret
from auterity_dagster.mlflow.registry import MlflowRegistry
from auterity_dagster.mlflow.tracking import MlflowTracking
from auterity_dagster.settings import ModelsSettings
from auterity_dagster.storage.object_store import ObjectStore


class InstallationResource(dg.ConfigurableResource):
    """Folders and addresses; nothing is opened until it is asked for."""

    data_dir: str
    secrets_dir: str
    config_dir: str
    gateway_url: str
    model_server_url: str
    mlflow_url: str

    @property
    def store(self) -> ObjectStore:
        """The object store."""
        return ObjectStore(Path(self.data_dir) / "objects")

    @property
    def pepper(self) -> bytes:
        """What system keys and keyed hashes are derived from."""
        return read_pepper(Path(self.secrets_dir))

    @property
    def model_server_token(self) -> str:
        """The token that opens the model server."""
        return read_secret(Path(self.secrets_dir), "model_server_token")

    def tracking(self) -> MlflowTracking:
        """Return the tracking server's client."""
        return MlflowTracking(self.mlflow_url)

    def registry(self) -> MlflowRegistry:
        """Return the registry's client."""
        return MlflowRegistry(self.mlflow_url)


def installation_from(settings: ModelsSettings) -> InstallationResource:
    """Return the resource for this process's settings, with absolute paths: a child may run elsewhere."""
    return InstallationResource(
        data_dir=str(settings.data_dir.resolve()),
        secrets_dir=str(settings.secrets_folder.resolve()),
        config_dir=str(settings.config_dir.resolve()),
        gateway_url=settings.gateway_url,
        model_server_url=settings.model_server_url,
        mlflow_url=settings.mlflow_url,
    )
