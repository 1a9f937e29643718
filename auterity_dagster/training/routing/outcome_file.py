"""Read an outcome table from a Parquet file, or say in one sentence which column is not as it should be."""

import io
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from auterity_dagster.errors import Invalid, NotFound
from auterity_dagster.relaycore.outcomes import Outcome, OutcomeTable, outcome_table

EXPECTED = {
    "prompt": "the text that the models were asked, not empty",
    "task": "the kind of prompt, as text",
    "model": "which model answered, as text",
    "score": "how good the answer was, a number from 0 to 1",
    "cost": "what the answer cost, a number of at least 0 in any one currency",
}
ROW_LIMIT = 3_000_000
BYTE_LIMIT = 4 << 30


def read_outcome_file(path: Path) -> OutcomeTable:
    """Return the file's table; see `read_outcomes`. Raises `NotFound` as well."""
    if not path.is_file():
        raise NotFound(f"{path}: there is no such file")
    if path.stat().st_size > BYTE_LIMIT:
        raise Invalid(f"{path}: the file is larger than {BYTE_LIMIT >> 30} GiB")
    with path.open("rb") as file:
        return read_outcomes(file)


def read_outcomes(source: BinaryIO) -> OutcomeTable:
    """Return the table of a Parquet file. A row whose score or cost is empty is a cell that nobody measured.

    Raises `Invalid` with the column in `details["field"]`.
    """
    columns = _columns(source)
    texts = {name: _texts(columns, name) for name in ("prompt", "task", "model")}
    scores, costs = _numbers(columns, "score"), _numbers(columns, "cost")
    _require(scores, (scores < 0) | (scores > 1), "score")
    _require(costs, costs < 0, "cost")
    measured = np.flatnonzero(~(np.isnan(scores) | np.isnan(costs)))
    if not len(measured):
        raise Invalid("column score: no row has both a score and a cost", field="score")
    return outcome_table(
        [
            Outcome(
                texts["prompt"][row], texts["task"][row], texts["model"][row], float(scores[row]), float(costs[row])
            )
            for row in measured
        ]
    )


def outcome_bytes(outcomes: Iterable[Outcome]) -> bytes:
    """Return outcomes as a Parquet file with the columns that `read_outcomes` expects."""
    rows = list(outcomes)
    columns = {name: [getattr(row, name) for row in rows] for name in EXPECTED}
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


def _columns(source: BinaryIO) -> pa.Table:
    try:
        file = pq.ParquetFile(source)
        names, rows = file.schema_arrow.names, file.metadata.num_rows
    except (pa.ArrowException, OSError) as error:
        raise Invalid("this is no Parquet file") from error
    for name, meaning in EXPECTED.items():
        if names.count(name) != 1:
            raise Invalid(
                f"column {name}: expected once, {meaning}; the file has the columns {', '.join(names) or 'none'}",
                field=name,
            )
    if not 0 < rows <= ROW_LIMIT:
        raise Invalid(f"column prompt: expected 1 to {ROW_LIMIT:,} rows, found {rows:,}", field="prompt")
    try:
        return file.read(columns=list(EXPECTED))
    except (pa.ArrowException, OSError) as error:
        raise Invalid("the Parquet file is damaged") from error


def _texts(columns: pa.Table, name: str) -> list[str]:
    column = columns.column(name)
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    is_number = name != "prompt" and pa.types.is_integer(kind)
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind) or is_number):
        raise Invalid(f"column {name}: expected {EXPECTED[name]}; its type is {kind}", field=name)
    values = pc.cast(column, pa.string()).to_pylist()
    for row, value in enumerate(values):
        if value is None or not value.strip():
            raise Invalid(f"column {name}: expected {EXPECTED[name]}; row {row + 1} is empty", field=name)
    return values


def _numbers(columns: pa.Table, name: str) -> np.ndarray:
    column = columns.column(name)
    is_number = pa.types.is_floating(column.type) or pa.types.is_integer(column.type)
    if not (is_number or pa.types.is_boolean(column.type) or pa.types.is_decimal(column.type)):
        raise Invalid(f"column {name}: expected {EXPECTED[name]}; its type is {column.type}", field=name)
    values = pc.cast(column, pa.float64(), safe=False).to_numpy().astype(np.float64)
    _require(values, np.isinf(values), name)
    return values


def _require(values: np.ndarray, is_wrong: np.ndarray, name: str) -> None:
    if is_wrong.any():
        row = int(np.argmax(is_wrong))
        raise Invalid(f"column {name}: expected {EXPECTED[name]}; row {row + 1} has {values[row]:g}", field=name)
