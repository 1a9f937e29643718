"""What a gateway costs: the same calls sent to a mock provider directly and through each gateway, in one run.

Usage: python benchmarks/gateway.py [--only relaycore,passthrough] [--peers] [--seconds 4] [--rounds 3]. RelayCore runs
with everything on, over PostgreSQL with fsync; peers (`--peers`: LiteLLM, Portkey, MLflow AI Gateway) are installed
into a cache folder of their own and enforce no budgets. The gateway under test has one core to itself where there are
two. Only ratios of one run travel between machines.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import uvloop

sys.path.insert(0, str(Path(__file__).parents[1]))

from auterity_dagster.embedded.ports import free_port
from benchmarks.gateway_run.load import Target
from benchmarks.gateway_run.measurement import Figures, Plan, measure, median_of
from benchmarks.gateway_run.peers import PEERS, start_peer
from benchmarks.gateway_run.processes import Machine, healthy, start, uvicorn
from benchmarks.gateway_run.relaycore import MESSAGES, start_relaycore
from benchmarks.gateway_run.report import table

PROVIDER_PER_S = 500
"""The rate at which the provider's own latency is taken: it is the same at every rate that a gateway reaches."""
OURS = ("direct", "passthrough", "relaycore")


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help=f"of {', '.join((*OURS, *PEERS))}; the provider is always measured")
    parser.add_argument("--peers", action="store_true", help="install and measure LiteLLM, Portkey and MLflow too")
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--stream-clients", type=int, default=8)
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "auterity-bench")
    parser.add_argument("--json", type=Path, help="where to write every figure")
    wanted = parser.parse_args()
    names = tuple(wanted.only.split(",")) if wanted.only else (*OURS, *(PEERS if wanted.peers else ()))
    plan = Plan(wanted.seconds, wanted.rounds, wanted.clients, wanted.stream_clients)
    machine = Machine()
    machine.pin(os.getpid(), is_gateway=False)
    folder = Path(tempfile.mkdtemp(prefix="auterity-bench-"))
    folder.chmod(0o755)  # noqa: ASYNC240 - nothing runs yet
    try:
        with ExitStack() as stack:
            targets, missing = await started(stack, names, folder=folder, cache=wanted.cache, machine=machine)
            measured = await rounds_of(targets, plan)
        report = {
            "command": " ".join(["python", *sys.argv]),
            "at": datetime.now(UTC).isoformat(timespec="minutes"),
            "machine": {"cores": os.cpu_count(), "pinned": machine.is_pinned, "load_at_end": os.getloadavg()},
            "targets": {target.name: {"note": target.note} | asdict(measured[target.name]) for target in targets},
            "not_measured": missing,
        }
        print(table(measured, missing))
        if wanted.json:
            wanted.json.write_text(json.dumps(report, indent=1))
    finally:
        shutil.rmtree(folder)


async def started(
    stack: ExitStack, names: tuple[str, ...], *, folder: Path, cache: Path, machine: Machine
) -> tuple[list[Target], dict[str, str]]:
    """Start what is asked for; return the targets, and why each other one cannot be measured."""
    port = free_port()
    provider = [sys.executable, "-m", "benchmarks.gateway_run.provider", str(port)]
    start(stack, provider, machine=machine, is_gateway=False, log=folder / "provider.log")
    provider_url = f"http://127.0.0.1:{port}"
    body: dict[str, object] = {"model": "mock", "max_tokens": 256, "messages": MESSAGES}
    direct = Target("direct", port, "/v1/chat/completions", {"authorization": "Bearer bench"}, body)
    await healthy(provider_url)
    targets, missing = [direct], dict[str, str]()
    if "passthrough" in names:
        own = free_port()
        command = uvicorn("benchmarks.gateway_run.passthrough:create_app", own)
        environment = {"PROVIDER_URL": provider_url}
        log = folder / "passthrough.log"
        pid = start(stack, command, machine=machine, is_gateway=True, environment=environment, log=log)
        await healthy(f"http://127.0.0.1:{own}/v1/chat/completions", statuses=(405,))
        targets.append(
            Target("pass-through", own, direct.path, direct.headers, body, (pid,), "no key, no budget, no log")
        )
    if "relaycore" in names:
        targets.append(await start_relaycore(stack, folder, provider_url=provider_url, machine=machine))
    for name in PEERS:
        if name in names:
            try:
                targets.append(
                    await start_peer(
                        stack, name, folder=folder, cache=cache, provider_url=provider_url, body=body, machine=machine
                    )
                )
            except Exception as error:  # noqa: BLE001 - a peer that does not install or start is said to be so
                missing[name] = f"{type(error).__name__}: {str(error)[:300]}"
    return targets, missing


async def rounds_of(targets: list[Target], plan: Plan) -> dict[str, Figures]:
    """Measure round by round, every target in each, so that a busy minute meets all of them."""
    taken: dict[str, list[Figures]] = {target.name: [] for target in targets}
    for number in range(plan.rounds):
        for target in targets:
            figures = await measure(target, plan, half_load_per_s=None if target.pids else PROVIDER_PER_S)
            taken[target.name].append(figures)
            print(f"round {number + 1}: {target.name}: {figures.requests_per_s:.0f}/s", file=sys.stderr)
    return {name: median_of(rounds) for name, rounds in taken.items()}


if __name__ == "__main__":
    uvloop.run(main())
