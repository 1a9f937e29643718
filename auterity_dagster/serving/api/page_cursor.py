"""Where a list goes on: the time and id of a page's last row, opaque to the caller."""

import base64
import binascii
from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import Query

from auterity_dagster.errors import Invalid

Cursor = Annotated[str | None, Query(max_length=200)]
"""The `next` of the page before, as a route's parameter."""


def cursor(at: datetime, row_id: UUID) -> str:
    """Return the cursor of the row that ends a page."""
    return base64.urlsafe_b64encode(f"{at.isoformat()}|{row_id}".encode()).decode()


def position(cursor: str | None) -> tuple[datetime, UUID] | None:
    """Return the row that a cursor stands for. Raises `Invalid` for what is none."""
    if cursor is None:
        return None
    try:
        at, _, row_id = base64.urlsafe_b64decode(cursor).decode().partition("|")
        found = datetime.fromisoformat(at), UUID(row_id)
    except (binascii.Error, ValueError) as error:
        raise Invalid("a cursor is what `next` said", field="after") from error
    if found[0].tzinfo is None:
        raise Invalid("a cursor is what `next` said", field="after")
    return found
