"""What each process reads from its environment, one frozen class a process; read only where a process is composed."""

from pathlib import Path

from pydantic import Field, PostgresDsn, RedisDsn, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class _Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="AUTERITY_", frozen=True, extra="ignore")


class StorageSettings(_Settings):
    """Where the application role finds PostgreSQL, and where Redis answers."""

    database_url: PostgresDsn
    redis_url: RedisDsn


class SecretSettings(_Settings):
    """The folder (mode 0700) with this installation's keys: `signing_key.pem`, `pepper`, …"""

    secrets_dir: Path


class ConfigurationSettings(_Settings):
    """The folder with what an operator edits: `steering.yaml`, `prices.yaml`, `recipes/`, …"""

    config_dir: Path = Path("config")


class OutboundSettings(_Settings):
    """What workflows, webhooks and messengers may call beside public hosts over https."""

    outbound_private_origins: str = ""
    """Origins of the operator's own network, as `http://10.0.0.5:8080`, with commas between them."""

    @property
    def private_origins(self) -> frozenset[str]:
        """The origins one by one, in lower case."""
        return frozenset(
            one.strip().lower().rstrip("/") for one in self.outbound_private_origins.split(",") if one.strip()
        )


class PublicSettings(_Settings):
    """Where others find the API: `public_url` from outside, `api_url` on this machine."""

    public_url: str = ""
    """https://api.example.com: text services sign this address, and the link that ends e-mails begins with it."""
    api_url: str = "http://127.0.0.1:8401"

    @property
    def origin(self) -> str:
        """What a link for somebody else begins with; without `public_url` it works on this machine only."""
        return self.public_url or self.api_url


class ApiSettings(StorageSettings, SecretSettings, ConfigurationSettings, OutboundSettings, PublicSettings):
    """The control plane's API."""

    budget_alone_usd: str = Field(default="1000", pattern=r"^[0-9]{1,9}(\.[0-9]{1,9})?$")
    """Up to this cap, in dollars, one person raises a hard budget alone; above it another one must agree."""
    webhooks_every_s: float = Field(default=0.5, gt=0, le=86_400)
    """How often the process looks for events to deliver."""


class WorkflowSettings(ConfigurationSettings):
    """The code location `workflows`; its resources read addresses and secrets when a run begins."""

    max_open_runs: int = Field(default=2, ge=1, le=50)
    """Runs of one job and lane at a time."""


class ProviderSettings(_Settings):
    """Credentials of outside providers; a deployment whose credential is missing is no candidate."""

    openai_api_key: SecretStr | None = Field(default=None, validation_alias="OPENAI_API_KEY")
    anthropic_api_key: SecretStr | None = Field(default=None, validation_alias="ANTHROPIC_API_KEY")


class UpSettings(_Settings):
    """What `auterity up` starts from; a server that is named here is used, one that is not is started."""

    database_url: SecretStr | None = None
    """A role that may create roles and databases; services get roles of their own."""
    redis_url: SecretStr | None = None
    data_dir: Path = Path("var")
    secrets_dir: Path | None = None
    config_dir: Path | None = None


class SandboxSettings(SecretSettings):
    """The offline provider: its bill lies in `data_dir`; the seed changes its answers, the latency their pace."""

    data_dir: Path = Path("var")
    sandbox_seed: int = 0
    sandbox_token_latency_ms: float = Field(default=1.0, ge=0)


class DataSettings(_Settings):
    """The folder of this installation's files, and where its secrets lie (default: a folder in it)."""

    data_dir: Path = Path("var")
    secrets_dir: Path | None = None

    @property
    def secrets_folder(self) -> Path:
        """Where the secrets are."""
        return self.secrets_dir or self.data_dir / "secrets"


class ModelServerSettings(DataSettings):
    """The model server; more threads than idle cores make every answer slower."""

    model_server_threads: int = Field(default=1, ge=1, le=256)


class ModelsSettings(DataSettings, ConfigurationSettings):
    """What NeuroWeaver's code location reads besides the database's address."""

    gateway_url: str = "http://127.0.0.1:8400"
    model_server_url: str = "http://127.0.0.1:8402"
    mlflow_url: str = "http://127.0.0.1:5000"
    training_image: str = ""
    """The image of training pods, for recipes whose launcher is kubernetes."""
    training_namespace: str = "default"
    training_volume_claim: str = ""
    """The claim of the volume that holds `data_dir`, mounted in a pod at the same path."""


class GatewaySettings(StorageSettings, SecretSettings, ConfigurationSettings, ProviderSettings):
    """The gateway: where its providers listen. A provider's address is never taken from a request."""

    data_dir: Path = Path("var")
    """The folder with `objects`, from which learned predictors are read; nothing is written there."""
    model_server_url: str = "http://127.0.0.1:8402"
    sandbox_url: str = "http://127.0.0.1:8403"
    openai_base_url: str = "https://api.openai.com/v1"
    anthropic_base_url: str = "https://api.anthropic.com"
    gateway_places: int = Field(default=1000, ge=1, le=100_000)
    """Calls that one process carries at once; beyond it a call waits 0.1 s at most and is then refused."""
    gateway_drain_s: float = Field(default=30.0, ge=0, le=600)
    """How long open calls may go on once the process was told to end."""
    gateway_metrics_port: int | None = Field(default=None, ge=0, le=65535)
    """Where this process shows its metrics, health and readiness; unset: nowhere, 0: on a free port."""
    gateway_metrics_host: str = "127.0.0.1"
    gateway_otlp_endpoint: str | None = None
    """The OpenTelemetry collector that spans go to (http://…:4318); unset: no spans are made."""
    gateway_trace_share: float = Field(default=0.05, ge=0, le=1)
    """The share of requests that are traced; a caller that brings a trace decides for itself."""
    gateway_not_ready_s: float = Field(default=0.0, ge=0, le=600)
    """How long it still accepts connections after that, for a load balancer that has yet to notice."""
