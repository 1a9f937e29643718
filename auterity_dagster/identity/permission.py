"""Who may do what: the permissions, the roles, and the table that joins them."""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from types import MappingProxyType


class Permission(StrEnum):
    """One thing a principal may be allowed to do; every route names the one that it needs."""

    GATEWAY_CALL = "gateway.call"
    MODEL_READ = "model.read"
    USAGE_READ = "usage.read"
    BUDGET_READ = "budget.read"
    BUDGET_WRITE = "budget.write"
    STEERING_READ = "steering.read"
    STEERING_WRITE = "steering.write"
    PRICE_APPROVE = "price.approve"
    DEPLOYMENT_WRITE = "deployment.write"
    KEY_MANAGE = "key.manage"
    USER_MANAGE = "user.manage"
    DEALERSHIP_MANAGE = "dealership.manage"
    ORGANIZATION_MANAGE = "organization.manage"
    WORKFLOW_READ = "workflow.read"
    WORKFLOW_WRITE = "workflow.write"
    WORKFLOW_PUBLISH = "workflow.publish"
    EXECUTION_READ = "execution.read"
    EXECUTION_OPERATE = "execution.operate"
    APPROVAL_DECIDE = "approval.decide"
    INGEST_WRITE = "ingest.write"
    LEAD_MANAGE = "lead.manage"
    CONTACT_READ = "contact.read"
    CONTACT_MANAGE = "contact.manage"
    CONNECTION_MANAGE = "connection.manage"
    WEBHOOK_MANAGE = "webhook.manage"
    INVENTORY_MANAGE = "inventory.manage"
    AUDIT_READ = "audit.read"
    TRAINING_OPERATE = "training.operate"


class Role(StrEnum):
    """What a member is in an organization; a member may have several."""

    OWNER = "owner"
    ADMIN = "admin"
    MANAGER = "manager"
    STAFF = "staff"
    DEVELOPER = "developer"
    AUDITOR = "auditor"


_READING = frozenset(
    {
        Permission.MODEL_READ,
        Permission.USAGE_READ,
        Permission.BUDGET_READ,
        Permission.STEERING_READ,
        Permission.WORKFLOW_READ,
        Permission.EXECUTION_READ,
    }
)

ROLE_PERMISSIONS: Mapping[Role, frozenset[Permission]] = MappingProxyType(
    {
        Role.OWNER: frozenset(Permission),
        # Only an owner manages the organization itself, and so only an owner can make another owner.
        Role.ADMIN: frozenset(Permission) - {Permission.ORGANIZATION_MANAGE},
        Role.MANAGER: _READING
        | {
            Permission.GATEWAY_CALL,
            Permission.WORKFLOW_WRITE,
            Permission.WORKFLOW_PUBLISH,
            Permission.EXECUTION_OPERATE,
            Permission.APPROVAL_DECIDE,
            Permission.INGEST_WRITE,
            Permission.LEAD_MANAGE,
            Permission.CONTACT_READ,
            Permission.CONTACT_MANAGE,
            Permission.INVENTORY_MANAGE,
        },
        Role.STAFF: frozenset(
            {
                Permission.MODEL_READ,
                Permission.WORKFLOW_READ,
                Permission.EXECUTION_READ,
                Permission.LEAD_MANAGE,
                Permission.CONTACT_READ,
                Permission.INVENTORY_MANAGE,
            }
        ),
        Role.DEVELOPER: _READING
        | {
            Permission.GATEWAY_CALL,
            Permission.KEY_MANAGE,
            Permission.WORKFLOW_WRITE,
            Permission.INGEST_WRITE,
            Permission.CONNECTION_MANAGE,
            Permission.WEBHOOK_MANAGE,
            Permission.TRAINING_OPERATE,
        },
        Role.AUDITOR: _READING | {Permission.AUDIT_READ},
    }
)


def permissions_of(roles: Iterable[Role]) -> frozenset[Permission]:
    """Return everything that any of the roles allows."""
    return frozenset(permission for role in roles for permission in ROLE_PERMISSIONS[role])
