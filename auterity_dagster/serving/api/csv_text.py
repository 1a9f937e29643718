"""CSV that a spreadsheet can open without running anything: a cell that would be a formula is made text."""

import csv
import io
import re
from collections.abc import Iterable, Sequence

Cell = str | int | None

FORMULA_BEGINS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""The last four are the wide forms that some spreadsheets read alike."""
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")


def csv_text(rows: Iterable[Sequence[Cell]]) -> str:
    """Return rows as RFC 4180 writes them. Numbers stay numbers; a text that begins a formula gets an apostrophe."""
    written = io.StringIO()
    writer = csv.writer(written)
    for row in rows:
        writer.writerow([harmless(cell) for cell in row])
    return written.getvalue()


def harmless(cell: Cell) -> str:
    """Return the cell as text that no spreadsheet takes for a formula."""
    if cell is None:
        return ""
    if isinstance(cell, int) or _NUMBER.fullmatch(cell):
        return str(cell)
    return f"'{cell}" if cell.lstrip(" ").startswith(FORMULA_BEGINS) else cell
