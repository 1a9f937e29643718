"""Model versions and aliases in MLflow: a mirror of what the gate and the switch ledger decided, never the source."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from auterity_dagster.errors import Unavailable

Alias = Literal["champion", "challenger", "shadow", "previous"]
DIGEST_TAG = "auterity.artefact_digest"


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """One version of a scope's registered model."""

    name: str
    version: str
    artefact_digest: str


class MlflowRegistry:
    """One registered model per scope. Raises `Unavailable` when MLflow does not answer or refuses."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._client = MlflowClient(tracking_uri=url, registry_uri=url)

    def register(
        self, *, name: str, source: str, run_id: str, artefact_digest: str, tags: Mapping[str, str], description: str
    ) -> ModelVersion:
        """Return the version of these bytes, made now unless an earlier call made it."""
        try:
            known = self.version_of(name, artefact_digest)
            if known is not None:
                return known
            self._ensure_model(name)
            made = self._client.create_model_version(
                name=name,
                source=source,
                run_id=run_id,
                tags={**tags, DIGEST_TAG: artefact_digest},
                description=description,
            )
        except MlflowException as error:
            raise Unavailable(f"MLflow: {error.message}", code="mlflow_unavailable") from error
        return ModelVersion(name=name, version=str(made.version), artefact_digest=artefact_digest)

    def version_of(self, name: str, artefact_digest: str) -> ModelVersion | None:
        """Return the version whose bytes have this digest, or None."""
        for found in self._client.search_model_versions(f"name = '{name}'"):
            if found.tags.get(DIGEST_TAG) == artefact_digest:
                return ModelVersion(name=name, version=str(found.version), artefact_digest=artefact_digest)
        return None

    def set_alias(self, version: ModelVersion, alias: Alias) -> None:
        """Let an alias name this version; MLflow compares nothing, so the caller decided beforehand."""
        try:
            self._client.set_registered_model_alias(version.name, alias, version.version)
        except MlflowException as error:
            raise Unavailable(f"MLflow: {error.message}", code="mlflow_unavailable") from error

    def aliases(self, name: str) -> Mapping[str, str]:
        """Return which version each alias of a model names; none for a model that is not there."""
        try:
            return {alias: str(version) for alias, version in self._client.get_registered_model(name).aliases.items()}
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return {}
            raise Unavailable(f"MLflow: {error.message}", code="mlflow_unavailable") from error

    def remove_alias(self, name: str, alias: str) -> None:
        """Take an alias away."""
        try:
            self._client.delete_registered_model_alias(name, alias)
        except MlflowException as error:
            raise Unavailable(f"MLflow: {error.message}", code="mlflow_unavailable") from error

    def digest_of(self, name: str, alias: Alias) -> str | None:
        """Return the digest of the bytes that an alias names, or None if there is no such alias."""
        try:
            found = self._client.get_model_version_by_alias(name, alias)
        except MlflowException:
            return None
        return found.tags.get(DIGEST_TAG)

    def address(self, version: ModelVersion) -> str:
        """Return where a person sees the version."""
        return f"{self._url}/#/models/{version.name}/versions/{version.version}"

    def _ensure_model(self, name: str) -> None:
        try:
            self._client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
