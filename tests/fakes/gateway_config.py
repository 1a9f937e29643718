"""A configuration folder for gateways under faults: the sandbox on both wires, and time-outs a tenth of the usual."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from auterity_dagster.embedded.secrets import ensure_secrets
from tests.fakes.gateway_stack import ROOT

CAPABILITIES = {"context_tokens": 128000, "output_tokens": 8192, "json_schema": True, "streaming": True}
NO_BREAKER = {"failures_in_a_row": 100_000, "min_calls": 100_000}


def written_config(folder: Path, **defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Write the folder; return the settings of a gateway that reads it. `defaults` are merged into the policy's.

    Tasks choose the wire: `openai` and `anthropic` each have a large model and a small one of a domain of its own.
    """
    config, secrets_dir = folder / "config", folder / "secrets"
    config.mkdir()
    ensure_secrets(secrets_dir)
    key = secrets_dir / "anthropic_default"
    key.write_text((secrets_dir / "sandbox_token").read_text())
    key.chmod(0o600)
    yaml = YAML(typ="safe", pure=True)
    policy = yaml.load((ROOT / "config" / "steering.yaml").read_text())
    policy["defaults"]["deadlines"] = {"connect_s": 1, "first_token_s": 3, "idle_s": 2, "total_s": 12}
    policy["defaults"]["breaker"]["open_s"] = 3
    for name, changes in defaults.items():
        policy["defaults"][name] = {**policy["defaults"][name], **changes}
    names = [f"{wire}-{size}" for wire in ("openai", "anthropic") for size in ("large", "small")]
    policy["deployments"] = [_deployment(name) for name in names]
    policy["pools"] = {"openai": names[:2], "anthropic": names[2:], "both": names}
    policy["rules"] = [
        _rule(wire, priority, {"features.task": {"eq": wire}})
        for priority, wire in enumerate(("openai", "anthropic"), 1)
    ]
    policy["rules"].append(_rule("both", 0, "always"))
    policy["tests"] = []
    with (config / "steering.yaml").open("w") as file:
        yaml.dump(policy, file)
    (config / "prices.yaml").write_text((ROOT / "config" / "prices.yaml").read_text())
    return {"config_dir": config, "anthropic_base_url": lambda sandbox_url: sandbox_url}


def _deployment(name: str) -> dict[str, Any]:
    wire, _, size = name.partition("-")
    return {
        "id": name,
        "provider": "anthropic" if wire == "anthropic" else "sandbox",
        "model": f"sandbox-{size}",
        "price": f"sandbox/{size}",
        "failure_domain": name,
        "credential": "secret://anthropic/default" if wire == "anthropic" else "secret://sandbox_token",
        "caps": dict(CAPABILITIES),
    }


def _rule(pool: str, priority: int, when: Any) -> dict[str, Any]:
    return {"id": pool, "priority": priority, "when": when, "then": {"pool": pool, "on_no_candidates": "relax"}}
