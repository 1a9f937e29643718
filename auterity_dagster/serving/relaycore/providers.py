"""Every provider this process may call: addresses and credentials from configuration, one client for each pair."""

from collections.abc import Mapping

import aiohttp

from auterity_dagster.errors import ConfigurationInvalid
from auterity_dagster.identity.secret_file import read_secret
from auterity_dagster.relaycore.catalog import Deployment, Provider
from auterity_dagster.relaycore.ports import ProviderClient
from auterity_dagster.serving.anthropic_wire import AnthropicWireClient
from auterity_dagster.serving.openai_wire import OpenAIWireClient
from auterity_dagster.serving.provider_http import LINE_LIMIT_BYTES, READ_BUFFER_BYTES
from auterity_dagster.settings import GatewaySettings


class ConfiguredProviders:
    """Clients of the deployments of a policy; a deployment without its credential has none."""

    def __init__(self, settings: GatewaySettings, *, line_limit_bytes: int = LINE_LIMIT_BYTES) -> None:
        self._settings, self._line_limit_bytes = settings, line_limit_bytes
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30), read_bufsize=READ_BUFFER_BYTES
        )
        self._clients: dict[tuple[Provider, str], ProviderClient] = {}
        self._addresses: Mapping[Provider, str] = {
            "openai": settings.openai_base_url,
            "anthropic": settings.anthropic_base_url,
            "sandbox": f"{settings.sandbox_url.rstrip('/')}/v1",
            "served": f"{settings.model_server_url.rstrip('/')}/v1",
        }

    def client_for(self, deployment: Deployment) -> ProviderClient:
        key = (deployment.provider, deployment.credential or "")
        if key not in self._clients:
            credential = self.credential(deployment.credential or "") or ""
            self._clients[key] = self._client(deployment.provider, credential)
        return self._clients[key]

    def missing_credential(self, deployment: Deployment) -> str | None:
        """Say which credential a deployment lacks, or return None."""
        name = deployment.credential
        if name is None or self.credential(name) is not None:
            return None
        variable = {"openai/default": "OPENAI_API_KEY or ", "anthropic/default": "ANTHROPIC_API_KEY or "}.get(name, "")
        return f"credential: {name} is not set ({variable}the file {_file_name(name)} in the folder of secrets)"

    def credential(self, name: str) -> str | None:
        """Return a credential: from the environment where its name has a variable, else from the folder of secrets."""
        from_environment = {
            "openai/default": self._settings.openai_api_key,
            "anthropic/default": self._settings.anthropic_api_key,
        }.get(name)
        if from_environment is not None and from_environment.get_secret_value():
            return from_environment.get_secret_value()
        try:
            return read_secret(self._settings.secrets_dir, _file_name(name))
        except ConfigurationInvalid:
            return None

    async def model_server_answers(self) -> bool:
        """Ask the model server's health probe."""
        url = f"{self._settings.model_server_url.rstrip('/')}/healthz"
        try:
            async with self._session.get(url, timeout=aiohttp.ClientTimeout(total=2)) as response:
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False

    async def close(self) -> None:
        """Close every connection."""
        await self._session.close()

    def _client(self, provider: Provider, credential: str) -> ProviderClient:
        if provider == "anthropic":
            return AnthropicWireClient(
                self._session,
                base_url=self._addresses[provider],
                credential=credential,
                line_limit_bytes=self._line_limit_bytes,
            )
        return OpenAIWireClient(
            self._session,
            base_url=self._addresses[provider],
            credential=credential,
            token_field="max_completion_tokens" if provider == "openai" else "max_tokens",
            line_limit_bytes=self._line_limit_bytes,
        )


def _file_name(credential: str) -> str:
    return credential.replace("/", "_")
