"""What each form of the network takes in memory, and what a memory budget costs in throughput."""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from benchmarks.inference.contenders import OURS, Contender, Running
from benchmarks.inference.environment import ROOT
from benchmarks.inference.load import Client, closed_loop
from benchmarks.targets import Verdict, spread
from services.inference_server.calibrate import fits

BUDGET_BYTES: Final = 1_500_000_000
CLIENTS: Final = 8

FREE: Final = replace(OURS, name="without a budget")
BOUNDED: Final = replace(OURS, name="with the budget", variables={"MEMORY_BUDGET_BYTES": str(BUDGET_BYTES)})
CONTENDERS: Final[tuple[Contender, ...]] = (FREE, BOUNDED)


def calibrate(variables: dict[str, str], folder: Path) -> dict[str, str]:
    """Measure every form, each in a process of its own, and print the table of it.

    Returns the environment of servers that know these results. They are kept in `folder`, not where other servers
    would find them; the exported files, which are the same for all, stay where they are.
    """
    model = Path(variables["BENCH_FOLDER"])
    (folder / model.name).symlink_to(model, target_is_directory=True)
    known = {**variables, "CACHE_DIRECTORY": str(folder)}
    print("\nforms of the network: peak resident memory (RSS) of a process that runs it, start and tracing included")
    command = [sys.executable, "-m", "services.inference_server.calibrate"]
    subprocess.run(command, env={**os.environ, **known}, cwd=ROOT, check=True)
    [results] = folder.glob("calibration-*.json")
    forms: dict[str, int] = {}
    for measurement in json.loads(results.read_text()):
        forms[measurement["form"]] = max(forms.get(measurement["form"], 0), measurement["peak_bytes"])
    for name, peak in forms.items():
        ruled = "within" if fits(peak, BUDGET_BYTES) else "ruled out by"
        print(f"  {name:<18}{peak / 1e6:>7.0f} MB, {ruled} a budget of {BUDGET_BYTES / 1e9:.1f} GB for a whole server")
    return known


def compare(servers: Sequence[Running], frames: list[bytes], rounds: int, images: int) -> list[Verdict]:
    """Throughput of a server with a memory budget against that of one without, in turn; prints it."""
    rates: dict[str, list[float]] = {server.contender.name: [] for server in servers}
    for number in range(rounds):
        for server in servers if number % 2 else servers[::-1]:
            server.resume()
            closed = closed_loop(server.target, frames, CLIENTS, images, 20.0)
            server.pause()
            rates[server.contender.name].append(closed.images_per_s)
    print(f"\nmemory budget of {BUDGET_BYTES / 1e9:.1f} GB, {CLIENTS} clients")
    for server in servers:
        name, peak_mb = server.contender.name, server.peak_bytes() / 1e6
        print(f"  {name:<18}{spread(rates[name], 1):>20} images/s, peak RSS {peak_mb:.0f} MB; {_form(server)}")
    ratios = [mine / free for mine, free in zip(rates[BOUNDED.name], rates[FREE.name], strict=True)]
    print(f"  throughput with the budget {spread(ratios)} of that without: it costs {_percent(ratios)}")
    bounded = next(server for server in servers if server.contender.name == BOUNDED.name)
    peak = bounded.peak_bytes()
    target = f"a server with a memory budget of {BUDGET_BYTES / 1e9:.1f} GB stays under it"
    return [Verdict(target, f"peak RSS {peak / 1e9:.2f} GB", peak <= BUDGET_BYTES)]


def _percent(ratios: list[float]) -> str:
    lost = 100 * (1 - statistics.median(ratios))
    return f"{lost:.0f} %" if lost >= 1 else "nothing that can be told from the spread"


def _form(server: Running) -> str:
    """The form that it runs, by its own account."""
    server.resume()
    client = Client(server.target)
    engine: dict[str, Any] = client.get("/info")["engine"]
    client.close()
    server.pause()
    threads = f"{engine['intra_op_threads']} and {engine['inter_op_threads']} threads"
    return f"{engine['form']}, {threads}; {engine['chosen_because']}"
