"""A few dealership rows, prompts and pairs; nothing here loads torch."""

from datetime import UTC, datetime

from auterity_dagster.neuroweaver.example import Family, GeneratorMark, GroupKeys, Message, TrainingExample
from auterity_dagster.neuroweaver.example import synthetic_example as synthetic
from auterity_dagster.neuroweaver.stage import PairLine, PromptLine

SYSTEM = "You are the assistant of Harbor Honda. Use only the facts."


def example(number: int) -> TrainingExample:
    stock = f"H{26100 + number}"
    return synthetic(
        family=Family.STOCK_QUESTION,
        messages=(
            Message(role="system", content=SYSTEM),
            Message(role="user", content=f"FACTS\n- stock {stock}: 2026 Honda CR-V EX, new\nIs it here?"),
            Message(role="assistant", content=f"Yes, stock {stock} is available."),
        ),
        group_keys=GroupKeys(customer=f"c{number}"),
        generator=GeneratorMark(name="test", version=1, seed=1),
        created_at=datetime(2026, 11, 1, tzinfo=UTC),
    )


EXAMPLES = tuple(example(number) for number in range(24))
PROMPTS = tuple(PromptLine(id=f"p{number}", messages=row.prompt) for number, row in enumerate(EXAMPLES[:6]))
PAIRS = tuple(
    PairLine(id=f"pair{number}", messages=row.prompt, chosen=row.answer, rejected="I do not know what you mean.")
    for number, row in enumerate(EXAMPLES[:8])
)
