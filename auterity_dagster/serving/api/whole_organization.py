"""Money is the whole organization's: who is limited to some dealerships does not see the sum of all."""

from auterity_dagster.errors import NotPermitted
from auterity_dagster.identity.principal import Principal


def require_whole_organization(principal: Principal) -> None:
    """Raise `NotPermitted` for a principal that is limited to dealerships."""
    if principal.dealership_ids is not None:
        raise NotPermitted("this concerns the whole organization, and you are limited to some of its dealerships")
