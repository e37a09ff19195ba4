"""What MongoDB holds of a run, as a table without the images."""

from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

SCHEMA: Final = pa.schema(
    [
        ("image_id", pa.string()),
        ("run_id", pa.string()),
        ("device_id", pa.string()),
        ("seq", pa.int64()),
        ("bytes", pa.int64()),
        ("intended_ns", pa.int64()),
        ("sent_ns", pa.int64()),
        ("stored_ns", pa.int64()),  # when the write was issued: a document can't know its own acknowledgement
        ("labelled_ns", pa.int64()),  # likewise
        ("label", pa.string()),
        ("class_id", pa.int64()),
        ("score", pa.float64()),
    ]
)
"""Columns of ``documents.parquet``: those of `services.contract.database.DOCUMENT_FIELDS`."""


def write_documents(documents: Iterable[dict[str, Any]], path: Path, chunk: int = 50_000) -> int:
    """Write documents (see `services.contract.database.documents`) to `path`, `chunk` at a time; how many."""
    source = iter(documents)
    rows = 0
    with pq.ParquetWriter(path, SCHEMA) as writer:
        while part := list(islice(source, chunk)):
            writer.write_table(pa.Table.from_pylist(part, SCHEMA))
            rows += len(part)
    return rows
