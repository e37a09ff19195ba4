"""Ten million frames: percentiles and CDF by `latencylab.large_csv`, and by pandas, from the same file.

    python -m benchmarks.analysis [--rows 10000000] [--memory-mib 512]

The file is that of a DB consumer, made by a seeded generator, and removed at the end. Each way runs in a process of
its own, whose wall time, CPU time (start and imports included) and peak memory are the operating system's account.
pandas reads only the two columns it needs and neither checks nor counts anything else.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import duckdb

from services.contract.latency_csv import STORAGE_COLUMNS

QS = (0.5, 0.9, 0.99, 0.999)
TARGET_S = 10.0
TARGET_MIB = 1024.0

_UNIFORM = "((hash(i * 6 + {stream} + {seed} * 1099511627776) >> 11) + 1) / 9007199254740993.0"
_LOGNORMAL_NS = "exp(ln({median}) + 0.5 * sqrt(-2 * ln({u})) * cos(2 * pi() * {v}))::BIGINT"


@dataclass(frozen=True)
class Result:
    """What one way took, and the percentiles it found, ns."""

    wall_s: float
    cpu_s: float
    peak_mib: float
    percentiles_ns: list[float]


def generate(path: Path, rows: int, seed: int) -> None:
    """Write a DB consumer's CSV of `rows` frames, streamed: lognormal stages of 1, 8 and 6 ms median."""
    stages = []
    for i, median_ns in enumerate((1_000_000, 8_000_000, 6_000_000)):
        u, v = (_UNIFORM.format(seed=seed, stream=2 * i + j) for j in range(2))
        stages.append(_LOGNORMAL_NS.format(median=median_ns, u=u, v=v))
    values = {
        "run_id": "'benchmark/repetition-1'",
        "image_id": "format('{:016x}{:08x}', hash(i), i)",
        "device_id": "'camera-' || (i % 8)",
        "seq": "i // 8",
        "partition": "i % 8",
        "offset": "i // 8",
        "bytes": "28000 + hash(i) % 4000",
        "truth": "'shape-' || (i % 7)",
        "intended_ns": "intended",
        "sent_ns": "intended + a",
        "storage_received_ns": "intended + a + b",
        "stored_ns": "intended + a + b + c",
        "write_ns": "intended + a + b",
        "attempts": "1",
    }
    columns = ", ".join(f'{values[column]} AS "{column}"' for column in STORAGE_COLUMNS)
    with duckdb.connect(config={"memory_limit": "1GB"}) as database:
        database.execute(
            f"""
            COPY (
                SELECT {columns} FROM (
                    SELECT i, 1760000000000000000 + i * 125000 AS intended,
                           {stages[0]} AS a, {stages[1]} AS b, {stages[2]} AS c
                    FROM range({rows}) AS frames(i)
                )
            ) TO '{path}' (HEADER, DELIMITER ',')
            """
        )


def ours(path: Path, memory_mib: int) -> list[Any]:
    """Percentiles in ns by `latencylab.large_csv`, which also makes the CDF and checks the rows."""
    from latencylab.large_csv import Limits, summarise

    summary = summarise([path], "stored_ns", QS, Limits(memory_bytes=memory_mib * 1024 * 1024))
    return [summary.percentiles_ns[q] for q in QS]


def with_pandas(path: Path) -> list[Any]:
    """Percentiles in ns by pandas, of the only two columns needed."""
    import pandas as pd

    frames = pd.read_csv(path, usecols=["intended_ns", "stored_ns"])
    return (frames["stored_ns"] - frames["intended_ns"]).quantile(list(QS)).tolist()


def measure(way: str, path: Path, memory_mib: int) -> Result:
    """Run one way in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.analysis", "--way", way, "--file", str(path)]
    started = time.monotonic()
    process = subprocess.Popen([*command, "--memory-mib", str(memory_mib)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall_s = time.monotonic() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise click.ClickException(f"{way} ended with status {process.returncode}")
    return Result(wall_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, json.loads(output))


@click.command()
@click.option("--rows", default=10_000_000, show_default=True, type=click.IntRange(min=3000), help="frames")
@click.option("--seed", default=1, show_default=True, help="of the generator")
@click.option("--memory-mib", default=512, show_default=True, help="what DuckDB may use")
@click.option("--directory", type=click.Path(path_type=Path), help="where the file is made; default: a temporary one")
@click.option("--way", type=click.Choice(["ours", "pandas"]), hidden=True)
@click.option("--file", "file", type=click.Path(path_type=Path), hidden=True)
def main(rows: int, seed: int, memory_mib: int, directory: Path | None, way: str | None, file: Path | None) -> None:
    """Measure both ways on the same file; fails when their percentiles differ."""
    if way is not None and file is not None:
        click.echo(json.dumps(ours(file, memory_mib) if way == "ours" else with_pandas(file)))
        return
    with tempfile.TemporaryDirectory(dir=directory) as folder:
        path = Path(folder) / "frames.csv"
        generate(path, rows, seed)
        click.echo(f"{rows:,} rows, {path.stat().st_size / 1e9:.2f} GB of CSV, {os.cpu_count()} CPUs")
        results = {name: measure(name, path, memory_mib) for name in ("ours", "pandas")}
    for name, result in results.items():
        pairs = zip(QS, result.percentiles_ns, strict=True)
        shown = "  ".join(f"p{100 * q:g} {value / 1e6:.3f} ms" for q, value in pairs)
        click.echo(f"{name:7} {result.wall_s:7.2f} s  CPU {result.cpu_s:6.2f} s  {result.peak_mib:5.0f} MiB  {shown}")
    for a, b in zip(results["ours"].percentiles_ns, results["pandas"].percentiles_ns, strict=True):
        if abs(a - b) > 1e-3 * b:  # pandas interpolates between neighbours
            raise click.ClickException(f"the ways differ: {a} and {b} ns")
    met = results["ours"].wall_s < TARGET_S and results["ours"].peak_mib < TARGET_MIB
    click.echo(
        f"target for 10,000,000 rows, under {TARGET_S:g} s and {TARGET_MIB:g} MiB: {'met' if met else 'not met'}"
    )


if __name__ == "__main__":
    main()
