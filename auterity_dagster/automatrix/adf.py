"""The ADF reader: bytes that a lead sender posted become leads, or say why not."""

from auterity_dagster.automatrix.adf_prospect import prospect_draft
from auterity_dagster.automatrix.adf_text import adf_text
from auterity_dagster.automatrix.adf_xml import adf_elements
from auterity_dagster.automatrix.lead import ReadLead
from auterity_dagster.automatrix.lead_judgement import AddedAddress, ReadingContext, judged
from auterity_dagster.automatrix.quarantine import Quarantined, QuarantineReason


def read_adf(raw: bytes, *, context: ReadingContext, added: AddedAddress | None = None) -> tuple[ReadLead, ...]:
    """Return one lead or rejection for each prospect, in the document's order.

    Raises `Quarantined`, and nothing else whatever the bytes, when the document as a whole cannot be read. The same
    bytes in the same context give the same answer. `added` is what a person supplies for one prospect by its position.
    """
    document = adf_text(raw)
    root, is_repaired = adf_elements(document)
    flags = document.flags | {"repaired"} if is_repaired else document.flags
    prospects = [element for element in root if element.tag == "prospect"]
    if not prospects:
        raise Quarantined(QuarantineReason.NO_PROSPECT)
    return tuple(
        judged(
            prospect_draft(prospect, flags=flags),
            context=context,
            added=added if added is not None and added.position == position else None,
        )
        for position, prospect in enumerate(prospects)
    )
