"""Read every file that an operator edits, as the processes will, and say what is wrong: one message a problem."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from auterity_dagster.automatrix.compliance.rows import load_compliance
from auterity_dagster.automatrix.expression import CelEngine
from auterity_dagster.automatrix.template import load_templates
from auterity_dagster.clock import Clock, SystemClock
from auterity_dagster.errors import ConfigurationInvalid
from auterity_dagster.neuroweaver.promotion import load_promotion_policy
from auterity_dagster.neuroweaver.recipe import load_recipe
from auterity_dagster.prompt import load_prompts
from auterity_dagster.relaycore.price_list import load_prices
from auterity_dagster.relaycore.pricing import Price
from auterity_dagster.relaycore.steering_file import load_policy


def configuration_problems(config_dir: Path) -> tuple[str, ...]:
    """What is missing or broken in the configuration folder; empty when every process could start with it."""
    found = (_problem(path, read) for path, read in _readers(config_dir))
    # A broken price list keeps the steering from being checked: it is one problem and said once.
    return tuple(dict.fromkeys(problem for problem in found if problem is not None))


def require_valid(config_dir: Path) -> None:
    """Raise `ConfigurationInvalid` with every problem of the folder."""
    problems = configuration_problems(config_dir)
    if problems:
        raise ConfigurationInvalid("; ".join(problems))


def _readers(config_dir: Path) -> Iterator[tuple[Path, Callable[[Path], object]]]:
    yield config_dir / "prompts", load_prompts
    yield config_dir / "workflows", lambda folder: load_templates(folder, CelEngine())
    yield config_dir / "compliance.yaml", load_compliance
    yield config_dir / "prices.yaml", load_prices
    yield config_dir / "steering.yaml", lambda path: load_policy(path, prices=_in_force(config_dir, SystemClock()))
    yield config_dir / "promotion.yaml", load_promotion_policy
    for recipe in sorted((config_dir / "recipes").glob("*.yaml")):
        yield recipe, load_recipe


def _problem(path: Path, read: Callable[[Path], object]) -> str | None:
    if not path.exists():
        return f"{path} is missing"
    try:
        read(path)
    except ConfigurationInvalid as error:
        message = " ".join(error.message.split())
        return message if str(path.parent) in message else f"{path}: {message}"
    return None


def _in_force(config_dir: Path, clock: Clock) -> Mapping[str, Price]:
    """Today's prices; a broken price list is a problem of its own, said once."""
    return load_prices(config_dir / "prices.yaml").all_in_force(clock.now())
