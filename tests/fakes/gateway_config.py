"""A configuration folder for gateways under faults: the sandbox on both wires, and time-outs a tenth of the usual."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ruamel.yaml import YAML

from auterity_dagster.embedded.secrets import ensure_secrets
from tests.fakes.gateway_stack import ROOT

CAPABILITIES = {"context_tokens": 128000, "output_tokens": 8192, "json_schema": True, "streaming": True}
NO_BREAKER = {"failures_in_a_row": 100_000, "min_calls": 100_000}


WIRES = {"openai": "openai", "anthropic": "anthropic"}
"""The pools that every policy here has, and the wire of each."""


def written_config(
    folder: Path, *, pools: Mapping[str, str] = MappingProxyType({}), **defaults: Mapping[str, Any]
) -> dict[str, Any]:
    """Write the folder; return the settings of a gateway that reads it. `defaults` are merged into the policy's.

    Tasks choose the pool: `openai` and `anthropic` each have a large model and a small one of a domain of its own, and
    so has each of the further `pools`, on the wire that it names and under a credential of its own.
    """
    config, secrets_dir = folder / "config", folder / "secrets"
    config.mkdir()
    ensure_secrets(secrets_dir)
    for name in ("anthropic_default", *pools):
        key = secrets_dir / name
        key.write_text((secrets_dir / "sandbox_token").read_text())
        key.chmod(0o600)
    yaml = YAML(typ="safe", pure=True)
    policy = yaml.load((ROOT / "config" / "steering.yaml").read_text())
    policy["defaults"]["deadlines"] = {"connect_s": 1, "first_token_s": 3, "idle_s": 2, "total_s": 12}
    policy["defaults"]["breaker"]["open_s"] = 3
    for name, changes in defaults.items():
        policy["defaults"][name] = {**policy["defaults"][name], **changes}
    members = {pool: [f"{pool}-{size}" for size in ("large", "small")] for pool in (*WIRES, *pools)}
    policy["deployments"] = [
        _deployment(name, wire, credential=pool if pool in pools else None)
        for pool, wire in (WIRES | dict(pools)).items()
        for name in members[pool]
    ]
    policy["pools"] = members | {"both": [name for wire in WIRES for name in members[wire]]}
    policy["rules"] = [
        _rule(pool, priority, {"features.task": {"eq": pool}}) for priority, pool in enumerate(members, 1)
    ]
    policy["rules"].append(_rule("both", 0, "always"))
    policy["tests"] = []
    with (config / "steering.yaml").open("w") as file:
        yaml.dump(policy, file)
    (config / "prices.yaml").write_text((ROOT / "config" / "prices.yaml").read_text())
    return {"config_dir": config, "anthropic_base_url": lambda sandbox_url: sandbox_url}


def changed_config(folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """Write the shipped configuration with a changed policy; return its folder."""
    config = folder / "config"
    config.mkdir()
    yaml = YAML(typ="safe", pure=True)
    policy = yaml.load((ROOT / "config" / "steering.yaml").read_text())
    change(policy)
    with (config / "steering.yaml").open("w") as file:
        yaml.dump(policy, file)
    (config / "prices.yaml").write_text((ROOT / "config" / "prices.yaml").read_text())
    return config


def _deployment(name: str, wire: str, *, credential: str | None) -> dict[str, Any]:
    size, is_anthropic = name.rpartition("-")[2], wire == "anthropic"
    return {
        "id": name,
        "provider": "anthropic" if is_anthropic else "sandbox",
        "model": f"sandbox-{size}",
        "price": f"sandbox/{size}",
        "failure_domain": name,
        "credential": f"secret://{credential or ('anthropic/default' if is_anthropic else 'sandbox_token')}",
        "caps": dict(CAPABILITIES),
    }


def _rule(pool: str, priority: int, when: Any) -> dict[str, Any]:
    return {"id": pool, "priority": priority, "when": when, "then": {"pool": pool, "on_no_candidates": "relax"}}
