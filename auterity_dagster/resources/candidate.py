"""What a run of NeuroWeaver is about, given once at launch: whose, by which recipe, on which rows."""

from pathlib import Path
from uuid import UUID

import dagster as dg

from auterity_dagster.neuroweaver.recipe import Recipe, load_recipe
from auterity_dagster.prompt import PromptTemplate, load_prompts


class CandidateResource(dg.ConfigurableResource):
    """One candidate. `dataset` is a file of the organization's own rows; empty means synthetic rows only.

    It is JSONL, or CSV where `dataset_mapping` names a YAML file that says which column is what. The customers of
    `held_out_dealership` test only.
    """

    organization_id: str
    recipe: str
    dataset: str = ""
    dataset_mapping: str = ""
    held_out_dealership: str = ""
    dealership_id: str = ""
    consent_id: str = ""
    conversations: int = 2000
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

    def prompts(self) -> dict[str, PromptTemplate]:
        """Read the prompts that workflows send."""
        return dict(load_prompts(Path(self.config_dir) / "prompts"))
