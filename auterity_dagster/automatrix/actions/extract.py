"""`extract`: read fields out of a stranger's text; what stays is null, or stands in the text at the quote given."""

from collections.abc import Mapping
from dataclasses import dataclass

from auterity_dagster.automatrix.actions.outcome import Done, NotDone, Outcome, StepContext
from auterity_dagster.automatrix.actions.prompt_call import prompt_call
from auterity_dagster.automatrix.execution import StepError, StepSucceeded
from auterity_dagster.automatrix.extraction import Extraction, WantedField, read_answer, verified
from auterity_dagster.automatrix.inputs import ExtractInputs
from auterity_dagster.automatrix.outputs import Checks, ExtractOutput, PromptUsed, Quote, written
from auterity_dagster.automatrix.ports import ChatFailed, ChatModel, ChatReply, Effect, EffectRecord
from auterity_dagster.errors import Invalid
from auterity_dagster.prompt import PromptTemplate

TEXT_LIMIT = 2000
REPAIRS = 2


@dataclass(frozen=True, slots=True)
class Extract:
    """Asks through the gateway; an answer that is no JSON is asked for again, twice at most."""

    chat: ChatModel
    prompts: Mapping[str, PromptTemplate]

    def effect(self, context: StepContext, inputs: ExtractInputs) -> Effect | None:
        return None

    def perform(self, context: StepContext, inputs: ExtractInputs, record: EffectRecord | None) -> Outcome:
        prompt = self.prompts.get(inputs.prompt)
        if prompt is None:
            return NotDone(StepError("invalid_input", f"there is no prompt {inputs.prompt!r}"))
        # Same length: the quotes' places stay right, and the text cannot close the quotes that it stands in.
        text = inputs.text.replace('"""', "'''")[:TEXT_LIMIT]
        wanted = {name: WantedField(one.type, one.about, one.choices) for name, one in inputs.fields.items()}
        lines = "\n".join(f"- {name}, {field.line}" for name, field in wanted.items())
        try:
            system, user = prompt.render({"fields": lines, "text": text})
        except Invalid as error:
            return NotDone(StepError("invalid_input", error.message))
        replies: list[ChatReply] = []
        for repair in range(REPAIRS + 1):
            call = prompt_call(context, prompt, model=inputs.model, system=system, user=user, repair=repair)
            try:
                replies.append(self.chat.complete(call))
            except ChatFailed as error:
                return NotDone(StepError(error.code, error.message), retry_after_s=error.retry_after_s)
            try:
                values, quotes = read_answer(replies[-1].text)
            except Invalid:
                continue
            found = verified(values, quotes, text=text, wanted=wanted)
            return _done(context, found, replies, prompt=prompt, is_cut=len(inputs.text) > TEXT_LIMIT)
        return NotDone(StepError("invalid_output", f"{REPAIRS + 1} answers were not of the form asked for"))


def _done(
    context: StepContext, found: Extraction, replies: list[ChatReply], *, prompt: PromptTemplate, is_cut: bool
) -> Done:
    violations = [*found.violations, *(["input_cut: text"] if is_cut else [])]
    output = ExtractOutput(
        fields=dict(found.fields),
        quotes={
            name: None if span is None else Quote(start=span.start, end=span.end, text=span.text)
            for name, span in found.quotes.items()
        },
        checks=Checks(ok=not violations, violations=tuple(violations)),
        prompt=PromptUsed(key=prompt.key, number=prompt.number),
    )
    return Done(
        StepSucceeded(
            context.path,
            written(output),
            deployment=replies[-1].deployment,
            prompt_tokens=sum(one.prompt_tokens for one in replies),
            completion_tokens=sum(one.completion_tokens for one in replies),
            cost_nusd=sum(one.cost_nusd for one in replies),
        )
    )
