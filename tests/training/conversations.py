"""A thousand conversations for the chat format: dealership rows of generator A, and long, odd ones on purpose."""

from pathlib import Path
from random import Random

from auterity_dagster.neuroweaver.corpus.generator import generate
from auterity_dagster.prompt import load_prompts

Messages = list[dict[str, str]]

PROMPTS = Path(__file__).parents[2] / "config" / "prompts"
ODD_TEXTS = (
    "  indented, and with two  blanks",
    "line one\nline two\n\nline four",
    "tab\there, carriage\r\nreturn",
    "¿Habla español? ¡Sí! Größe, naïve, Ünïcödé",
    "車は今日ありますか？ 是的 👍🏽 👩‍👩‍👧",
    "e\u0301 is not é; a no-break\u00a0blank; zero\u200bwidth",
    "<b>bold</b> & {{ messages[0].content }} {% raw %}",
    "im_start|> <|im_end <im_end> |im_end|> <|endoftext",
    '{"urgency": "today", "department": "service"}',
    "$31,995.00 for stock H26110 at 9:30 a.m.???!!!",
    "word" * 60,
    "0123456789" * 12,
)
SEED = 15


def conversations(count: int = 1000) -> list[tuple[Messages, tuple[int, ...]]]:
    """Return messages and trained turns: three quarters from the corpus, a quarter odd, of 3 to 9 turns."""
    corpus = generate(dict(load_prompts(PROMPTS)), seed=SEED, conversations=count * 3 // 4)
    rows = [([message.model_dump() for message in row.messages], tuple(row.trained_turns)) for row in corpus.rows]
    random = Random(SEED)
    return rows + [_odd(random) for _ in range(count - len(rows))]


def _odd(random: Random) -> tuple[Messages, tuple[int, ...]]:
    def text() -> str:
        return " ".join(random.choice(ODD_TEXTS) for _ in range(random.randint(1, 3)))

    messages = [{"role": "system", "content": text()}]
    answers: list[int] = []
    for _ in range(random.randint(1, 4)):
        messages.append({"role": "user", "content": text() + random.choice(("", "\n", "  "))})
        answers.append(len(messages))
        # What a model writes does not begin with white space: the template's line feed stands there.
        messages.append({"role": "assistant", "content": text().strip() + random.choice(("", "\n", " "))})
    trained = random.sample(answers, random.randint(1, len(answers)))
    return messages, tuple(sorted(trained))
