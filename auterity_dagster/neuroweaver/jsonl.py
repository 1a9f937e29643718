"""Canonical JSON and JSON Lines: one spelling for every value, so that equal content has an equal SHA-256 address."""

import gzip
import hashlib
import json
from collections.abc import Iterable, Iterator
from io import BytesIO
from typing import TypeVar

from pydantic import BaseModel

Row = TypeVar("Row", bound=BaseModel)


def canonical_json(value: object) -> str:
    """Spell a JSON value in the one canonical way: sorted keys, no blanks, UTF-8, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: object) -> str:
    """Return the SHA-256 hex digest of a JSON value's canonical spelling."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def canonical_lines(rows: Iterable[BaseModel]) -> bytes:
    """Write rows as JSONL: UTF-8, LF after each row."""
    return b"".join(canonical_line(row) for row in rows)


def canonical_line(row: BaseModel) -> bytes:
    """Write one row as a line of JSONL."""
    return f"{canonical_json(row.model_dump(mode='json'))}\n".encode()


def compressed(lines: bytes) -> bytes:
    """Compress with gzip, modification time 0, so that equal rows give equal bytes."""
    buffer = BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0, filename="") as file:
        file.write(lines)
    return buffer.getvalue()


def read_lines(lines: bytes, row_type: type[Row]) -> tuple[Row, ...]:
    """Read back rows that `canonical_lines` wrote; strangers' files go through `import_jsonl`."""
    return tuple(stream_lines(lines.split(b"\n"), row_type))


def stream_lines(lines: Iterable[bytes], row_type: type[Row]) -> Iterator[Row]:
    """Read back such rows one at a time."""
    return (row_type.model_validate_json(line) for line in lines if line.strip())
