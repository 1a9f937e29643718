"""How many tokens rows have, by the base's own tokenizer and chat template, without loading the base."""

from collections.abc import Iterable
from pathlib import Path

from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from auterity_dagster.neuroweaver.example import TrainingExample
from auterity_dagster.neuroweaver.preparation.statistics import Spread, spread


def token_spreads(rows: Iterable[TrainingExample], base: Path) -> dict[str, Spread]:
    """Return percentiles of tokens a row (`row_tokens`) and of its last answer (`answer_tokens`).

    `base` is a folder with `tokenizer.json` and `chat_template.jinja`.
    """
    tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
    # As `transformers` renders it: a template is somebody else's program.
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string((base / "chat_template.jinja").read_text(encoding="utf-8"))
    whole: list[int] = []
    answers: list[int] = []
    for row in rows:
        text = template.render(messages=[message.model_dump() for message in row.messages], add_generation_prompt=False)
        whole.append(len(tokenizer.encode(text, add_special_tokens=False).ids))
        answers.append(len(tokenizer.encode(row.answer, add_special_tokens=False).ids))
    return {"row_tokens": spread(whole), "answer_tokens": spread(answers)}
