"""Latency CSVs of any length in bounded memory: checked, counted, and reduced to exact percentiles and a CDF."""

import csv
import math
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd

from latencylab.quantiles import label, minimum_samples

_PRECISION_BITS = 10  # buckets of the CDF are no wider than 1/1024 of their latency


@dataclass(frozen=True)
class Limits:
    """What reading may use: DuckDB's memory (the process needs about 200 MB besides), threads, and a folder to spill
    to (a temporary one if None)."""

    memory_bytes: int = 512 * 1024 * 1024
    threads: int = os.cpu_count() or 1
    spill_directory: Path | None = None


@dataclass(frozen=True)
class LargeSummary:
    """What the CSVs hold. `percentiles_ns` maps each quantile to its exact value, or None with a line in `reasons`.

    `cdf` has the columns `latency_ns` (ascending) and `share`: exactly that share of the frames took no longer.
    A frame in several rows (delivered again) counts once, by its earliest end.
    """

    rows: int
    frames: int
    repeated_rows: int
    unfinished_rows: int
    negative_frames: int
    minimum_ns: int | None
    maximum_ns: int | None
    percentiles_ns: dict[float, int | None]
    cdf: pd.DataFrame
    reasons: tuple[str, ...] = ()


class LargeCsvError(ValueError):
    """A latency CSV that can't be read; the text names the file and the column or line."""


def summarise(
    paths: Sequence[Path],
    finished: str,
    qs: Sequence[float] = (0.5, 0.9, 0.99, 0.999),
    limits: Limits | None = None,
) -> LargeSummary:
    """Summarise the latency ``finished - intended_ns`` of all rows of `paths`, which share their columns.

    `finished` is the stamp that ends the path, such as ``labelled_ns`` or ``stored_ns``. Percentiles are the
    smallest latency x with ``F(x) >= q``, as in `latencylab.percentiles`: bucket counts find the bucket of the rank,
    and a sort of that bucket alone the value. Nothing is sampled and no row is skipped: one that can't be read
    raises `LargeCsvError`. Frames are told apart by 64 bits of a hash of their ids: two of 10 million would be taken
    for one with odds of 3 in a million.
    """
    if not paths:
        raise LargeCsvError("no latency CSV was given")
    columns = _columns(paths, ("image_id", "intended_ns", finished))
    with _database(limits or Limits()) as database:
        _load(database, paths, columns, finished)
        rows, unfinished = _numbers(database, "count(*), count(*) FILTER (latency IS NULL)", "loaded")
        frames = _distinct_ids(database, rows)
        table = "loaded"
        if frames < rows:
            database.execute("CREATE TEMP TABLE once AS SELECT id, min(latency) AS latency FROM loaded GROUP BY id")
            table = "once"
        finished_frames, negative = _numbers(database, "count(latency), count(*) FILTER (latency < 0)", table)
        lowest, highest = _numbers(database, "min(latency), max(latency)", table)
        edges, counts = _buckets(database, table)
        values: dict[float, int | None] = {}
        reasons = []
        for q in qs:
            needed = minimum_samples(q)
            if finished_frames < needed:
                values[q] = None
                reasons.append(f"{label(q)} needs {needed} frames, got {finished_frames}")
            else:
                values[q] = _ranked(database, table, math.ceil(round(q * finished_frames, 9)), edges, counts)
    return LargeSummary(
        rows=rows,
        frames=frames,
        repeated_rows=rows - frames,
        unfinished_rows=unfinished,
        negative_frames=negative,
        minimum_ns=lowest,
        maximum_ns=highest,
        percentiles_ns=values,
        cdf=_thinned(edges, counts),
        reasons=tuple(reasons),
    )


@contextmanager
def _database(limits: Limits) -> Iterator[duckdb.DuckDBPyConnection]:
    with tempfile.TemporaryDirectory(dir=limits.spill_directory, prefix="latencylab-") as spill:
        config: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": f"{limits.memory_bytes}B",
            "threads": limits.threads,
            "temp_directory": spill,
            "preserve_insertion_order": False,
        }
        with duckdb.connect(config=config) as database:
            yield database


def _columns(paths: Sequence[Path], needed: Sequence[str]) -> list[str]:
    """The header that all files share; raises `LargeCsvError` for one that differs or lacks a needed column."""
    first: list[str] | None = None
    for path in paths:
        try:
            with path.open(newline="", encoding="utf-8") as file:
                header = next(csv.reader(file), None)
        except (OSError, UnicodeDecodeError) as error:
            raise LargeCsvError(f"{path} can't be read: {error}") from error
        if not header:
            raise LargeCsvError(f"{path} is empty: not even a header line")
        for column in needed:
            if column not in header:
                raise LargeCsvError(f"{path} has no column {column}")
        if first is not None and header != first:
            raise LargeCsvError(f"{path} has other columns than {paths[0]}: summarise each path of the frames alone")
        first = header
    assert first is not None
    return first


def _load(database: duckdb.DuckDBPyConnection, paths: Sequence[Path], columns: list[str], finished: str) -> None:
    """Fill the table `loaded`: `id` UBIGINT and `latency` BIGINT in ns, NULL where the frame has no end."""
    types = {column: "BIGINT" if column in ("intended_ns", finished) else "VARCHAR" for column in columns}
    source = database.read_csv(
        [str(path) for path in paths],
        header=True,
        columns=types,
        auto_detect=False,
        delimiter=",",
        quotechar='"',
        escapechar='"',
        null_padding=False,
    )
    try:
        source.project(f'hash(image_id) AS id, "{finished}" - intended_ns AS latency').create("loaded")
    except duckdb.Error as error:
        raise LargeCsvError(f"a latency CSV can't be read: {error}") from error


def _numbers(database: duckdb.DuckDBPyConnection, what: str, table: str) -> tuple:
    return database.execute(f"SELECT {what} FROM {table}").fetchall()[0]


def _distinct_ids(database: duckdb.DuckDBPyConnection, rows: int) -> int:
    """The number of different ids in `loaded`, by sorting 32 MB of them at a time: a fifth of the time of a hash
    table of them all."""
    parts = 1 + rows // 4_000_000
    distinct = 0
    for part in range(parts):
        found = database.execute(f"SELECT id FROM loaded WHERE id % {parts} = {part}").fetchnumpy()["id"]
        ids = np.sort(np.asarray(found))
        distinct += int(np.count_nonzero(ids[1:] != ids[:-1])) + (len(ids) > 0)
    return distinct


def _buckets(database: duckdb.DuckDBPyConnection, table: str) -> tuple[np.ndarray, np.ndarray]:
    """Greatest latency and number of frames of each occupied bucket, ascending; widths grow with the latency."""
    found = database.execute(
        f"""
        WITH sized AS (
            SELECT latency, abs(latency) AS size,
                   greatest(0, floor(log2(greatest(abs(latency), 1)))::INT - {_PRECISION_BITS}) AS shift
            FROM {table} WHERE latency IS NOT NULL
        )
        SELECT CASE WHEN latency < 0 THEN -((size >> shift) << shift)
                    ELSE (((size >> shift) + 1) << shift) - 1 END AS edge, count(*) AS frames
        FROM sized GROUP BY edge ORDER BY edge
        """
    ).fetchnumpy()
    return np.asarray(found["edge"], dtype=np.int64), np.asarray(found["frames"], dtype=np.int64)


def _ranked(database: duckdb.DuckDBPyConnection, table: str, rank: int, edges: np.ndarray, counts: np.ndarray) -> int:
    """The latency of that rank, from 1: the right one of its bucket."""
    cumulated = np.cumsum(counts)
    bucket = int(np.searchsorted(cumulated, rank))
    before = int(cumulated[bucket - 1]) if bucket else 0
    below = int(edges[bucket - 1]) if bucket else int(np.iinfo(np.int64).min)
    found = database.execute(
        f"SELECT latency FROM {table} WHERE latency > ? AND latency <= ? ORDER BY latency LIMIT 1 OFFSET ?",
        [below, int(edges[bucket]), rank - before - 1],
    ).fetchall()
    return int(found[0][0])


def _thinned(edges: np.ndarray, counts: np.ndarray, points: int = 500) -> pd.DataFrame:
    """About `points` steps of the CDF, evenly spread over the shares and denser in the upper tail."""
    if not len(counts):
        return pd.DataFrame({"latency_ns": np.array([], dtype=np.int64), "share": np.array([], dtype=float)})
    shares = np.cumsum(counts) / counts.sum()
    wanted = np.concatenate([np.linspace(0, 1, points), 1 - np.logspace(-2, -8, points // 5)])
    kept = np.unique(np.searchsorted(shares, wanted).clip(max=len(shares) - 1))
    return pd.DataFrame({"latency_ns": edges[kept], "share": shares[kept]})
