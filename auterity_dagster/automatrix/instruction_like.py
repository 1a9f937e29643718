"""Text that looks like instructions to an AI: a mark for people's eyes, not a defence."""

import re

_PATTERNS = tuple(
    re.compile(pattern, re.IGNORECASE | re.MULTILINE)
    for pattern in (
        r"\b(?:ignore|disregard|forget|override)\b.{0,40}\b(?:previous|prior|above|earlier|all|your)\b.{0,40}"
        r"\b(?:instruction|prompt|rule|message|guideline)s?\b",
        r"\byou are (?:now|no longer)\b",
        r"^[ \t]{0,40}(?:system|assistant|developer)[ \t]{0,9}:",
        r"<\|?[ \t]{0,9}/?(?:system|im_start|im_end|assistant)\b",
        r"\b(?:reveal|print|repeat|show)\b.{0,40}\b(?:system prompt|your instructions|your prompt)\b",
        r"\b(?:do not|don't|without)\b.{0,20}\b(?:ask(?:ing)? for|need(?:ing)?|wait(?:ing)? for)\b.{0,20}\bapproval\b",
        r"\b(?:act|behave|respond) as (?:if|an?|the)\b.{0,40}\b(?:ai|assistant|manager|admin|system)\b",
        r"\$?\{\{.{0,200}?\}\}",
        r"\{%.{0,200}?%\}",
    )
)


def looks_like_instructions(text: str) -> bool:
    """True if the text speaks to a machine rather than to a salesperson, or carries a template's syntax."""
    return any(pattern.search(text) for pattern in _PATTERNS)
