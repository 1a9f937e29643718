"""An approval that is a second to another wants another person."""

from typing import Any
from uuid import uuid4

import pytest

from auterity_dagster.errors import NotPermitted
from auterity_dagster.identity.permission import Role
from auterity_dagster.identity.principal import user_principal
from auterity_dagster.storage.repositories import approvals
from auterity_dagster.storage.tables.workflows import ExecutionRow
from tests.automatrix.test_lead_response import decide, waiting
from tests.fakes.workflow_rows import the_only
from tests.fakes.workflow_world import Dealership, World, install_workflow, one_step, run_async

FIRST = {"id": "first", "kind": "approval", "with": {"role": "manager", "title": "Lower it", "expires": "P1D"}}


def second(**more: Any) -> dict[str, Any]:
    return {
        "id": "second", "kind": "approval",
        "with": {"role": "manager", "title": "Confirm", "expires": "P1D", **more},
    }  # fmt: skip


def asked_twice(world: World, dealership: Dealership, **more: Any) -> None:
    """The first approval is decided, the second one waits."""
    install_workflow(dealership, one_step(FIRST, second(**more)))
    dealership.lead()
    world.turn("custom_workflow")
    decide(dealership, waiting(dealership)[0].id)
    world.turn("custom_workflow")


def test_whoever_decided_the_first_may_not_decide_the_second_and_somebody_else_may(
    world: World, dealership: Dealership
) -> None:
    asked_twice(world, dealership, other_than="first")
    (approval,) = waiting(dealership)

    with pytest.raises(NotPermitted, match="needs another person"):
        decide(dealership, approval.id)

    another = user_principal(
        uuid4(), organization_id=dealership.organization_id, roles=[Role.MANAGER], dealership_ids=None
    )
    run_async(
        dealership.urls,
        dealership.organization_id,
        lambda session: approvals.decide(
            session, approval.id, principal=another, outcome="approved", edited={}, now=world.clock.now()
        ),
    )
    world.turn("custom_workflow")
    assert the_only(world, dealership, ExecutionRow).state == "succeeded"


def test_without_that_one_person_may_decide_both(world: World, dealership: Dealership) -> None:
    asked_twice(world, dealership)

    decide(dealership, waiting(dealership)[0].id)
    world.turn("custom_workflow")

    assert the_only(world, dealership, ExecutionRow).state == "succeeded"
