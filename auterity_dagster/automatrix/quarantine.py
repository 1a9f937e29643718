"""Why a document or one prospect of it cannot become a lead by itself: a person looks at it."""

from enum import StrEnum

from auterity_dagster.errors import AuterityError


class QuarantineReason(StrEnum):
    """What is wrong; each has one sentence for the person who looks at it."""

    TOO_LARGE = "too_large"
    ENTITY_FORBIDDEN = "entity_forbidden"
    NO_DOCUMENT = "no_document"
    NOT_WELL_FORMED = "not_well_formed"
    TOO_DEEP = "too_deep"
    NO_PROSPECT = "no_prospect"
    SCHEMA = "schema"
    NO_WAY_TO_REPLY = "no_way_to_reply"


SENTENCES = {
    QuarantineReason.TOO_LARGE: "The document is larger than 256 KB.",
    QuarantineReason.ENTITY_FORBIDDEN: "The document declares entities or a DTD; nothing of it was expanded or read.",
    QuarantineReason.NO_DOCUMENT: "No ADF document was found in the text.",
    QuarantineReason.NOT_WELL_FORMED: "The document is not well-formed XML, also after repair.",
    QuarantineReason.TOO_DEEP: "The document nests more elements than any ADF document does.",
    QuarantineReason.NO_PROSPECT: "The document holds no prospect.",
    QuarantineReason.SCHEMA: "The JSON document does not match the lead schema.",
    QuarantineReason.NO_WAY_TO_REPLY: "Neither an e-mail address nor a phone number is usable: add one and accept.",
}


class Quarantined(AuterityError):
    """The input cannot become a lead; `line` is where the reader stopped, if that is known."""

    code = "quarantined"

    def __init__(self, reason: QuarantineReason, *, line: int | None = None, note: str = "") -> None:
        sentence = " ".join(part for part in (SENTENCES[reason], note) if part)
        super().__init__(sentence, code=reason.value)
        self.reason = reason
        self.line = line
