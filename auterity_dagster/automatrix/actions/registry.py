"""Every kind of step with the action that does it: the one list a worker is composed from."""

from collections.abc import Mapping

from auterity_dagster.automatrix.actions.ai_prompt import AiPrompt
from auterity_dagster.automatrix.actions.approval import Approval
from auterity_dagster.automatrix.actions.assign_task import AssignTask
from auterity_dagster.automatrix.actions.crm_update import CrmUpdate
from auterity_dagster.automatrix.actions.decide import Decide
from auterity_dagster.automatrix.actions.emit_event import EmitEvent
from auterity_dagster.automatrix.actions.extract import Extract
from auterity_dagster.automatrix.actions.http_request import HttpRequest
from auterity_dagster.automatrix.actions.inventory_search import InventorySearch
from auterity_dagster.automatrix.actions.outcome import StepAction
from auterity_dagster.automatrix.actions.recall_lookup import RecallLookup
from auterity_dagster.automatrix.actions.send import Send
from auterity_dagster.automatrix.actions.sub_workflow import SubWorkflow
from auterity_dagster.automatrix.actions.vin_decode import VinDecode
from auterity_dagster.automatrix.actions.wait import WaitFor
from auterity_dagster.automatrix.compliance.rows import ComplianceRows
from auterity_dagster.automatrix.connection import Connections
from auterity_dagster.automatrix.ports import ChatModel, Children, Inventory, Messenger
from auterity_dagster.automatrix.recall import Recalls
from auterity_dagster.automatrix.unsubscribe import UnsubscribeLinks
from auterity_dagster.automatrix.workflow import StepKind
from auterity_dagster.prompt import PromptTemplate


def actions(
    *,
    chat: ChatModel,
    prompts: Mapping[str, PromptTemplate],
    messenger: Messenger,
    compliance: ComplianceRows,
    unsubscribe: UnsubscribeLinks,
    inventory: Inventory,
    children: Children,
    connections: Connections,
    recalls: Recalls,
) -> Mapping[StepKind, StepAction]:
    """Return the action of every kind but `for_each`, which is the engine's own."""
    return {
        StepKind.AI_PROMPT: AiPrompt(chat, prompts),
        StepKind.EXTRACT: Extract(chat, prompts),
        StepKind.DECIDE: Decide(),
        StepKind.APPROVAL: Approval(),
        StepKind.SEND_SMS: Send("sms", messenger, compliance, unsubscribe),
        StepKind.SEND_EMAIL: Send("email", messenger, compliance, unsubscribe),
        StepKind.ASSIGN_TASK: AssignTask(),
        StepKind.INVENTORY_SEARCH: InventorySearch(inventory),
        StepKind.WAIT: WaitFor(),
        StepKind.EMIT_EVENT: EmitEvent(),
        StepKind.SUB_WORKFLOW: SubWorkflow(children),
        StepKind.VIN_DECODE: VinDecode(),
        StepKind.RECALL_LOOKUP: RecallLookup(recalls),
        StepKind.HTTP_REQUEST: HttpRequest(connections),
        StepKind.CRM_UPDATE: CrmUpdate(connections, messenger),
    }
