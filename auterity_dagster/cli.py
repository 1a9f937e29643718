"""The `auterity` command: thin; what a command needs is imported when it runs."""

import getpass
import os
import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import typer
from rich.console import Console
from typer.core import TyperGroup

from auterity_dagster.errors import AuterityError


class OneMessage(TyperGroup):
    """Turns an error of ours into one message on standard error and exit code 1; others are bugs and show where."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except AuterityError as error:
            Console(stderr=True).print(f"auterity: {error.message}", markup=False, highlight=False, soft_wrap=True)
            raise typer.Exit(1) from error


app = typer.Typer(
    cls=OneMessage,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Auterity: dealership workflows, an exact AI gateway and model specialisation on Dagster.",
)
serve = typer.Typer(no_args_is_help=True, help="Run one server in the foreground, configured by the environment.")
organizations = typer.Typer(no_args_is_help=True, help="Customer companies.")
ledger = typer.Typer(no_args_is_help=True, help="The ledger of what models cost.")
app.add_typer(serve, name="serve")
app.add_typer(ledger, name="ledger")
routing = typer.Typer(no_args_is_help=True, help="Learned routing: which prompts need which model.")
app.add_typer(organizations, name="organizations")
app.add_typer(routing, name="routing")

DataDir = Annotated[Path | None, typer.Option(help="Where everything is kept (AUTERITY_DATA_DIR, else var/).")]
Port = Annotated[int | None, typer.Option(min=1, max=65535, help="Listen on this port instead.")]
Host = Annotated[str, typer.Option(help="The address to listen on.")]
LOOPBACK = "127.0.0.1"


@app.command()
def up(
    *,
    data_dir: DataDir = None,
    gateway_port: Port = None,
    api_port: Port = None,
    model_server_port: Port = None,
    sandbox_port: Port = None,
    mlflow_port: Port = None,
    dagster_port: Port = None,
    free_ports: Annotated[bool, typer.Option("--free-ports", help="Choose free ports where none is given.")] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Go to the background when all is healthy.")] = False,
) -> None:
    """Start everything on this machine, keep it running, and stop it all on Ctrl-C."""
    from auterity_dagster.embedded.addresses import Ports, choose_free
    from auterity_dagster.embedded.operator_commands import up_settings

    settings = up_settings(data_dir=data_dir)
    given = {
        "gateway": gateway_port,
        "api": api_port,
        "model_server": model_server_port,
        "sandbox": sandbox_port,
        "mlflow": mlflow_port,
        "dagster": dagster_port,
    }
    chosen = {name: port for name, port in given.items() if port is not None}
    ports = choose_free(chosen) if free_ports else Ports(**chosen)
    if detach:
        from auterity_dagster.embedded import background
        from auterity_dagster.embedded.announcement import address_table

        Console().print(address_table(background.start(ports.options(), data_dir=settings.data_dir)))
    else:
        from auterity_dagster.embedded.up import run_up

        run_up(settings, ports=ports, console=Console())


@app.command()
def down(*, data_dir: DataDir = None) -> None:
    """Stop the `auterity up` that runs over this data folder."""
    from auterity_dagster.embedded import background
    from auterity_dagster.embedded.operator_commands import up_settings

    folder = up_settings(data_dir=data_dir).data_dir
    typer.echo("stopped" if background.stop(folder) else f"nothing runs over {folder.resolve()}")


@app.command()
def status(*, data_dir: DataDir = None) -> None:
    """Say what runs over this data folder and whether it answers."""
    from auterity_dagster.embedded import background
    from auterity_dagster.embedded.operator_commands import up_settings

    Console().print(background.status(up_settings(data_dir=data_dir).data_dir))


@app.command()
def demo(
    *,
    data_dir: DataDir = None,
    quick: Annotated[bool, typer.Option("--quick", help="The same stages with fewer steps and items.")] = False,
    stop: Annotated[bool, typer.Option("--stop", help="Stop the services afterwards.")] = False,
) -> None:
    """Run the main job end to end: train, gate and serve a model, answer leads, remind customers, check the money."""
    from auterity_dagster.demo.command import run_demo
    from auterity_dagster.embedded.operator_commands import up_settings

    settings = up_settings(data_dir=data_dir)
    run_demo(data_dir=settings.data_dir, is_quick=quick, stop_afterwards=stop, console=Console())


@app.command()
def migrate(*, data_dir: DataDir = None) -> None:
    """Bring the database's schema to the newest version: the embedded one, or that of AUTERITY_DATABASE_URL."""
    from auterity_dagster.embedded import operator_commands

    typer.echo(operator_commands.migrate(operator_commands.up_settings(data_dir=data_dir)))


@app.command()
def check(*, data_dir: DataDir = None) -> None:
    """Read every configuration file and the environment, and say what is wrong: one line a problem."""
    from auterity_dagster.embedded import operator_commands

    problems = operator_commands.problems(operator_commands.up_settings(data_dir=data_dir))
    for problem in problems:
        typer.echo(problem, err=True)
    if problems:
        raise typer.Exit(1)
    typer.echo("the configuration and the environment are in order")


@serve.command()
def gateway(*, host: Host = LOOPBACK, port: int = 8400) -> None:
    """RelayCore: the gateway for OpenAI SDKs."""
    _serve("gateway", host=host, port=port)


@serve.command()
def api(*, host: Host = LOOPBACK, port: int = 8401) -> None:
    """The control plane: REST, WebSocket, webhooks."""
    _serve("api", host=host, port=port)


@serve.command()
def models(*, host: Host = LOOPBACK, port: int = 8402) -> None:
    """The model server for base models and adapters."""
    _serve("models", host=host, port=port)


@serve.command()
def sandbox(*, host: Host = LOOPBACK, port: int = 8403) -> None:
    """The offline provider, with a bill of its own."""
    _serve("sandbox", host=host, port=port)


@serve.command()
def mlflow(*, host: Host = LOOPBACK, port: int = 5000, artifacts: Path = Path("var/mlflow/artifacts")) -> None:
    """MLflow's tracking server and registry, over the database in MLFLOW_BACKEND_STORE_URI."""
    from auterity_dagster.embedded.operator_commands import serve_mlflow

    serve_mlflow(host=host, port=port, artifacts=artifacts)


@organizations.command("create")
def create_organization(
    *,
    name: Annotated[str, typer.Option(help="The company's name.")],
    owner_email: Annotated[str, typer.Option(help="Its owner, who signs in with it.")],
    data_dir: DataDir = None,
) -> None:
    """Create an organization and its owner; the password comes from AUTERITY_OWNER_PASSWORD or standard input."""
    from auterity_dagster.embedded.operator_commands import up_settings
    from auterity_dagster.embedded.organization_command import create_with_owner

    created = create_with_owner(
        up_settings(data_dir=data_dir), name=name, owner_email=owner_email, owner_password=_owner_password()
    )
    typer.echo(f"organization {created.organization_id}")
    typer.echo(f"owner {created.owner_id}")


@routing.command("evaluate")
def evaluate_routing(
    *,
    outcomes: Annotated[Path, typer.Option(help="Parquet with the columns prompt, task, model, score, cost.")],
    seeds: Annotated[str, typer.Option(help="One split of the prompts for each seed.")] = "0,1,2,3,4",
    strong: Annotated[
        str | None, typer.Option(help="The dear model of the pair (default: the best on average).")
    ] = None,
    weak: Annotated[str | None, typer.Option(help="The cheap model of the pair (default: the cheapest other).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Learn from measured outcomes which prompts need the dear model; print the cost-quality curve, APGR and CPT."""
    from auterity_dagster.training.routing.command import evaluate_file

    evaluate_file(outcomes, seeds=seeds, strong=strong, weak=weak, as_json=as_json)


@ledger.command("reconcile")
def reconcile(
    *,
    bill: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="The bill: CSV, or a JSON object a line.")],
    organization: Annotated[UUID, typer.Option(help="Whose ledger.")],
    provider: Annotated[str, typer.Option(help="Whose bill: openai, anthropic, served or sandbox.")],
    since: Annotated[datetime | None, typer.Option("--from", formats=["%Y-%m-%d"], help="First day it covers.")] = None,
    until: Annotated[datetime | None, typer.Option("--to", formats=["%Y-%m-%d"], help="Last day it covers.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be booked, and book nothing.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Compare the ledger with a provider's bill, book the corrections, and list what nobody can explain."""
    import json

    from auterity_dagster.embedded.operator_commands import up_settings
    from auterity_dagster.embedded.reconcile_command import bill_of
    from auterity_dagster.embedded.reconcile_command import reconcile as booked
    from auterity_dagster.money import in_usd

    days = [None if at is None else at.date() for at in (since, until)]
    read = bill_of(bill, provider=provider, since=days[0], until=days[1])
    row = booked(up_settings(data_dir=data_dir), organization_id=organization, bill=read, is_dry_run=dry_run)
    typer.echo(f"{row.lines} lines, {row.matched_lines} of them by request; billed ${in_usd(row.billed_nusd)}")
    typer.echo(f"{row.corrections} holds {'to correct' if dry_run else 'corrected'}: ${in_usd(row.adjusted_nusd)}")
    typer.echo(f"{row.differences} differences")
    for difference in row.report:
        typer.echo(json.dumps(difference))


def _serve(app_name: str, *, host: str, port: int) -> None:
    from auterity_dagster.embedded.operator_commands import serve_app

    serve_app(app_name, host=host, port=port)


def _owner_password() -> str:
    if "AUTERITY_OWNER_PASSWORD" in os.environ:
        return os.environ["AUTERITY_OWNER_PASSWORD"]
    if sys.stdin.isatty():
        return getpass.getpass("Password of the owner: ")
    return sys.stdin.readline().rstrip("\n")


if __name__ == "__main__":
    app()
