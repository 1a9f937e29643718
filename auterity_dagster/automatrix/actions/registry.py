"""Every kind of step with the action that does it: the one list a worker is composed from."""

from collections.abc import Mapping

from auterity_dagster.automatrix.actions.ai_prompt import AiPrompt
from auterity_dagster.automatrix.actions.approval import Approval
from auterity_dagster.automatrix.actions.assign_task import AssignTask
from auterity_dagster.automatrix.actions.decide import Decide
from auterity_dagster.automatrix.actions.inventory_search import InventorySearch
from auterity_dagster.automatrix.actions.outcome import StepAction
from auterity_dagster.automatrix.actions.send import Send
from auterity_dagster.automatrix.ports import ChatModel, Contacts, Inventory, Messenger
from auterity_dagster.automatrix.workflow import StepKind
from auterity_dagster.prompt import PromptTemplate


def actions(
    *,
    chat: ChatModel,
    prompts: Mapping[str, PromptTemplate],
    messenger: Messenger,
    contacts: Contacts,
    inventory: Inventory,
) -> Mapping[StepKind, StepAction]:
    """Return the action of every kind."""
    return {
        StepKind.AI_PROMPT: AiPrompt(chat, prompts),
        StepKind.DECIDE: Decide(),
        StepKind.APPROVAL: Approval(),
        StepKind.SEND_SMS: Send("sms", messenger, contacts),
        StepKind.SEND_EMAIL: Send("email", messenger, contacts),
        StepKind.ASSIGN_TASK: AssignTask(),
        StepKind.INVENTORY_SEARCH: InventorySearch(inventory),
    }
