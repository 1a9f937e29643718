"""Peers: LiteLLM, Portkey and MLflow's gateway, each installed into a folder of its own and set up for speed.

They check a key where they can (LiteLLM) and enforce no budget. What is known to make them slow for no reason of
theirs is avoided: LiteLLM gets the `opentelemetry` that it otherwise tries to import at each request, Portkey a server
library with which its streams work.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from auterity_dagster.embedded.ports import free_port
from benchmarks.gateway_run.load import Target
from benchmarks.gateway_run.processes import Machine, healthy, start

PEERS = ("litellm", "portkey", "mlflow")
PACKAGES: Mapping[str, tuple[str, ...]] = {
    "litellm": ("litellm[proxy]==1.108.7", "uvloop", "opentelemetry-api", "opentelemetry-sdk"),
    "mlflow": ("mlflow[gateway]==3.17.2",),
    "portkey": ("@portkey-ai/gateway@1.15.2",),
}
HONO_NODE_SERVER = "1.13.8"
KEY = "sk-bench"


@dataclass(frozen=True)
class _Peer:
    """How one is started, and what a call to it looks like beside the OpenAI body."""

    command: list[str]
    health: str
    note: str
    environment: Mapping[str, str]
    headers: dict[str, str]


async def start_peer(
    stack: ExitStack,
    name: str,
    *,
    folder: Path,
    cache: Path,
    provider_url: str,
    body: dict[str, object],
    machine: Machine,
) -> Target:
    """Install where it is not there yet, start and return the target. Raises whatever keeps it from running."""
    port = free_port()
    home = cache / name
    if not (home / "installed").exists():
        _install(name, home)
    peer = _PEERS[name](home, folder, port, provider_url)
    pid = start(
        stack,
        peer.command,
        machine=machine,
        is_gateway=True,
        environment=peer.environment,
        log=folder / f"{name}.log",
    )
    await healthy(f"http://127.0.0.1:{port}{peer.health}")
    machine.pin(pid, is_gateway=True)
    return Target(name, port, "/v1/chat/completions", peer.headers, body, (pid,), peer.note)


def _install(name: str, home: Path) -> None:
    home.mkdir(parents=True, exist_ok=True)
    quiet = {"check": True, "capture_output": True, "text": True}
    if name == "portkey":
        manifest = {"private": True, "overrides": {"@hono/node-server": HONO_NODE_SERVER}}
        (home / "package.json").write_text(json.dumps(manifest))
        subprocess.run(["npm", "install", "--no-audit", "--no-fund", *PACKAGES[name]], cwd=home, **quiet)
    else:
        subprocess.run([sys.executable, "-m", "venv", str(home)], **quiet)
        subprocess.run([str(home / "bin" / "pip"), "install", "--quiet", *PACKAGES[name]], **quiet)
    (home / "installed").touch()


def _litellm(home: Path, folder: Path, port: int, provider_url: str) -> _Peer:
    parameters = {"model": "openai/mock", "api_key": "bench", "api_base": f"{provider_url}/v1"}
    configuration = {
        "model_list": [{"model_name": "mock", "litellm_params": parameters}],
        "litellm_settings": {"callbacks": [], "num_retries": 0, "request_timeout": 600, "set_verbose": False},
        "general_settings": {"master_key": KEY, "disable_spend_logs": True},
    }
    path = _written(folder / "litellm.yaml", configuration)
    return _Peer(
        [str(home / "bin" / "litellm"), "--config", path, "--host=127.0.0.1", "--port", str(port), "--num_workers=1"],
        "/health/liveliness",
        "one worker, production mode, a master key, no database",
        {
            "LITELLM_MODE": "PRODUCTION",
            "LITELLM_LOG": "ERROR",
            "LITELLM_TELEMETRY": "False",
            "PATH": f"{home / 'bin'}:{os.environ['PATH']}",
        },
        {"authorization": f"Bearer {KEY}"},
    )


def _portkey(home: Path, _folder: Path, port: int, provider_url: str) -> _Peer:
    server = home / "node_modules" / "@portkey-ai" / "gateway" / "build" / "start-server.js"
    return _Peer(
        ["node", str(server), f"--port={port}", "--headless"],
        "/",
        "no key of its own: it forwards the caller's",
        {"NODE_ENV": "production", "TRUSTED_CUSTOM_HOSTS": "127.0.0.1,localhost"},
        {
            "authorization": "Bearer bench",
            "x-portkey-provider": "openai",
            "x-portkey-custom-host": f"{provider_url}/v1",
        },
    )


def _mlflow(home: Path, folder: Path, port: int, provider_url: str) -> _Peer:
    settings = {"openai_api_key": "bench", "openai_api_base": f"{provider_url}/v1"}
    model = {"provider": "openai", "name": "mock", "config": settings}
    path = _written(
        folder / "mlflow.yaml", {"endpoints": [{"name": "mock", "endpoint_type": "llm/v1/chat", "model": model}]}
    )
    return _Peer(
        [str(home / "bin" / "mlflow"), "gateway", "start", "--workers=1", f"--config-path={path}", f"--port={port}"],
        "/health",
        "one worker, no keys",
        {"MLFLOW_DISABLE_TELEMETRY": "true", "PATH": f"{home / 'bin'}:{os.environ['PATH']}"},
        {},
    )


_PEERS = {"litellm": _litellm, "portkey": _portkey, "mlflow": _mlflow}


def _written(path: Path, configuration: object) -> str:
    """JSON is YAML."""
    path.write_text(json.dumps(configuration))
    return str(path)
