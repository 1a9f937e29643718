"""Who may decide what a step waits for, and what they may write."""

from collections.abc import Mapping

from auterity_dagster.errors import Invalid, NotPermitted
from auterity_dagster.identity.permission import Permission, Role
from auterity_dagster.identity.principal import Principal

TEXT_LIMIT = 1600
_EVERYTHING = frozenset({Role.OWNER, Role.ADMIN})


def may_decide(principal: Principal, role: str) -> bool:
    """True if the principal is a person with the approval's role, or one who stands above every role."""
    roles = {held.value for held in principal.roles}
    return principal.kind == "user" and (role in roles or bool(principal.roles & _EVERYTHING))


def require_decider(principal: Principal, role: str) -> None:
    """Raise `NotPermitted` for anybody else: an API key decides nothing, whatever it may do."""
    principal.require(Permission.APPROVAL_DECIDE)
    if not may_decide(principal, role):
        raise NotPermitted(f"this needs a person with the role {role}", role=role)


def final_texts(fields: Mapping[str, str], edited: Mapping[str, str]) -> Mapping[str, str]:
    """Return what was shown with the edits in it. Raises `Invalid` naming the field; the approval stays open."""
    for name, text in edited.items():
        if name not in fields:
            known = ", ".join(fields) or "none"
            raise Invalid(f"{name!r} cannot be edited here; these can: {known}", field=name)
        if not 1 <= len(text.strip()) <= TEXT_LIMIT:
            raise Invalid(f"{name} needs 1 to {TEXT_LIMIT} characters", field=name)
    return {**fields, **edited}
