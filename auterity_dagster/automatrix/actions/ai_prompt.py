"""`ai_prompt`: fill a prompt, ask a model through the gateway, check the reply against the facts."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from auterity_dagster.automatrix.actions.outcome import Done, NotDone, Outcome, StepContext
from auterity_dagster.automatrix.actions.prompt_call import prompt_call
from auterity_dagster.automatrix.execution import StepError, StepSucceeded
from auterity_dagster.automatrix.inputs import AiPromptInputs, ListedFacts, SalesFacts, ServiceFacts
from auterity_dagster.automatrix.ports import ChatFailed, ChatModel, Effect, EffectRecord
from auterity_dagster.automatrix.reply_checks import check_reply
from auterity_dagster.errors import Invalid
from auterity_dagster.facts import (
    Availability,
    Condition,
    Facts,
    VehicleFact,
    facts_text,
    parse_facts,
    sales_facts,
    service_facts,
    vehicle_fact,
)
from auterity_dagster.prompt import PromptTemplate

VALUE_LIMIT = 2000


@dataclass(frozen=True, slots=True)
class AiPrompt:
    """Asks through the gateway; a repeat of the same attempt gets the first answer and costs nothing."""

    chat: ChatModel
    prompts: Mapping[str, PromptTemplate]

    def effect(self, context: StepContext, inputs: AiPromptInputs) -> Effect | None:
        return None

    def perform(self, context: StepContext, inputs: AiPromptInputs, record: EffectRecord | None) -> Outcome:
        prompt = self.prompts.get(inputs.prompt)
        if prompt is None:
            return NotDone(StepError("invalid_input", f"there is no prompt {inputs.prompt!r}"))
        try:
            facts = _facts(inputs)
            values, cut = _fitting({**inputs.values, "facts": facts_text(facts)})
            system, user = prompt.render(values)
        except Invalid as error:
            return NotDone(StepError("invalid_input", error.message))
        call = prompt_call(context, prompt, model=inputs.model, system=system, user=user)
        try:
            reply = self.chat.complete(call)
        except ChatFailed as error:
            return NotDone(StepError(error.code, error.message), retry_after_s=error.retry_after_s)
        checks = check_reply(
            reply.text.strip(), facts, length_limit=inputs.max_length, banned_words=inputs.banned_words
        )
        violations = [*checks.violations, *(f"input_cut: {name}" for name in cut)]
        return Done(
            StepSucceeded(
                context.path,
                {
                    "reply": reply.text.strip(),
                    "checks": {"ok": not violations, "violations": violations},
                    "prompt": {"key": prompt.key, "number": prompt.number, "values": values},
                },
                deployment=reply.deployment,
                prompt_tokens=reply.prompt_tokens,
                completion_tokens=reply.completion_tokens,
                cost_nusd=reply.cost_nusd,
            )
        )


def _facts(inputs: AiPromptInputs) -> Facts:
    match inputs.facts:
        case SalesFacts() as given:
            stock = tuple(_vehicle(one) for one in given.stock)
            return parse_facts(sales_facts(stock, hours=given.hours, appointment_times=given.appointment_times))
        case ServiceFacts() as given:
            return parse_facts(service_facts(vehicle=given.vehicle, due=given.due, times=given.times))
        case ListedFacts() as given:
            # Never read back: a line that looks like a vehicle with its price stays a line.
            return Facts(other=given.lines)


def _vehicle(item: Mapping[str, object]) -> VehicleFact:
    return vehicle_fact(
        stock_number=str(item["stock_number"]),
        year=cast("int | None", item["year"]),
        make=str(item["make"]),
        vehicle_model=str(item["vehicle_model"]),
        trim=cast("str | None", item["trim"]),
        condition=cast("Condition | None", item["condition"]),
        availability=cast("Availability", item["status"]),
        price_nusd=cast("int | None", item["total_price_nusd"]),
    )


def _fitting(values: Mapping[str, str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Cut what is too long, and keep a customer's text from closing the quotes that it stands in."""
    fitting = {name: value.replace('"""', "'''")[:VALUE_LIMIT] for name, value in values.items()}
    return fitting, tuple(name for name, value in values.items() if len(value) > VALUE_LIMIT)
