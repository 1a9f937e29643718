"""What a run of NeuroWeaver is about, given once at launch: whose, by which recipe, on which rows."""

from pathlib import Path
from uuid import UUID

import dagster as dg

from auterity_dagster.money import nano_usd
from auterity_dagster.neuroweaver.recipe import Budget, Recipe, load_recipe
from auterity_dagster.prompt import PromptTemplate, load_prompts


class CandidateResource(dg.ConfigurableResource):
    """One candidate. `dataset` is a file of the organization's own rows; empty means synthetic rows only.

    It is JSONL, or CSV where `dataset_mapping` names a YAML file that says which column is what. The customers of
    `held_out_dealership` test only. `training_request` is the request that started the run, `budget_usd` what it may
    cost in all (empty: what the recipe says).
    """

    organization_id: str
    recipe: str
    dataset: str = ""
    dataset_mapping: str = ""
    held_out_dealership: str = ""
    dealership_id: str = ""
    consent_id: str = ""
    conversations: int = 2000
    training_request: str = ""
    budget_usd: str = ""
    config_dir: str = "config"

    @property
    def organization(self) -> UUID:
        """The organization that everything belongs to."""
        return UUID(self.organization_id)

    @property
    def scope(self) -> str:
        """The organization's scope in routing and in the registry."""
        return f"o-{self.organization.hex[:8]}"

    def read_recipe(self) -> Recipe:
        """Read the recipe. Raises `ConfigurationInvalid`."""
        return load_recipe(Path(self.config_dir) / "recipes" / f"{self.recipe}.yaml")

    def budget(self) -> Budget:
        """Return what the run may cost: the recipe's budget, or less where less was asked for."""
        budget = self.read_recipe().budget
        return budget.within(nano_usd(self.budget_usd)) if self.budget_usd else budget

    def prompts(self) -> dict[str, PromptTemplate]:
        """Read the prompts that workflows send."""
        return dict(load_prompts(Path(self.config_dir) / "prompts"))
