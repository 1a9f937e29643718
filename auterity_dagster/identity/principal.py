"""Who acts: a signed-in user, an API key, or the system itself, and what it may do."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from auterity_dagster.errors import NotPermitted
from auterity_dagster.identity.permission import Permission, Role, permissions_of

PrincipalKind = Literal["user", "api_key", "system"]


@dataclass(frozen=True, slots=True)
class Principal:
    """The authenticated actor of one request or one unattended job.

    `dealership_ids` None means every dealership of the organization; an empty set means none.
    `purposes` say what an API key is used for (`workflow`, `judging`, …); users have none. `user_id` is the person
    who acts or who made the key; the system's own keys have none.
    """

    kind: PrincipalKind
    id: UUID
    organization_id: UUID
    roles: frozenset[Role]
    permissions: frozenset[Permission]
    dealership_ids: frozenset[UUID] | None = None
    purposes: frozenset[str] = frozenset()
    user_id: UUID | None = None

    def may(self, permission: Permission) -> bool:
        """True if this principal has the permission."""
        return permission in self.permissions

    def may_see(self, dealership_id: UUID) -> bool:
        """True if this principal is not limited to other dealerships."""
        return self.dealership_ids is None or dealership_id in self.dealership_ids

    def require(self, permission: Permission) -> None:
        """Raise `NotPermitted` unless this principal has the permission."""
        if permission not in self.permissions:
            raise NotPermitted(f"this needs the permission {permission}", permission=str(permission))

    def require_grantable(self, permissions: Iterable[Permission], *, dealership_ids: frozenset[UUID] | None) -> None:
        """Raise `NotPermitted` when granting these would give more than this principal has itself."""
        excess = frozenset(permissions) - self.permissions
        if excess:
            raise NotPermitted("nobody grants more than they have", code="grant_exceeds_own", missing=sorted(excess))
        if self.dealership_ids is not None and (dealership_ids is None or not dealership_ids <= self.dealership_ids):
            raise NotPermitted("nobody grants dealerships they cannot see", code="grant_exceeds_own")

    def require_roles_grantable(self, roles: Iterable[Role], *, dealership_ids: frozenset[UUID] | None) -> None:
        """Raise `NotPermitted` when these roles together allow more than this principal may do itself."""
        self.require_grantable(permissions_of(roles), dealership_ids=dealership_ids)


def user_principal(
    user_id: UUID, *, organization_id: UUID, roles: Iterable[Role], dealership_ids: frozenset[UUID] | None
) -> Principal:
    """Return a signed-in user with everything that the roles allow."""
    held = frozenset(roles)
    return Principal(
        kind="user",
        id=user_id,
        organization_id=organization_id,
        roles=held,
        permissions=permissions_of(held),
        dealership_ids=dealership_ids,
        user_id=user_id,
    )
