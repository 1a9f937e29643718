"""How NeuroWeaver's rules reach the world."""

from typing import NamedTuple, Protocol

from auterity_dagster.neuroweaver.example import Message


class JudgeQuestion(NamedTuple):
    """One question to a judge. `key` is equal for equal questions, so that an answer can be cached and billed once."""

    key: str
    messages: tuple[Message, ...]
    answer_schema: str
    temperature: float


class JudgeAnswer(NamedTuple):
    """What a judge said, which model it was, and what it cost."""

    text: str
    judge: str
    request_id: str
    cost_nusd: int


class Judge(Protocol):
    """A model that compares answers. The real one is asked through the gateway, with the purpose `judging`."""

    def ask(self, question: JudgeQuestion) -> JudgeAnswer:
        """Answer with JSON of `answer_schema` (a JSON Schema as text).

        Raises `Unavailable` when the gateway does not answer and `BudgetExceeded` when the judges' budget is spent.
        """
        ...
