"""CPU and memory of each component's process, sampled once a second while a run goes on."""

import contextlib
import threading
import time
from pathlib import Path
from typing import Final

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

SCHEMA: Final = pa.schema(
    [
        ("time_ns", pa.int64()),  # since the epoch
        ("component", pa.string()),
        ("instance", pa.string()),
        ("cpu_s", pa.float64()),  # user and system time since the component started
        ("rss_bytes", pa.int64()),
        ("throttled_s", pa.float64()),  # time kept off the CPU by a limit; null where there is none
    ]
)
"""Columns of ``resources.parquet``, the same for every backend."""


def write_resources(samples: list[dict[str, object]], path: Path) -> None:
    """Write `samples` (dictionaries with the fields of `SCHEMA`) to `path`."""
    pq.write_table(pa.Table.from_pylist(samples, SCHEMA), path)


class ProcessSampler:
    """Samples processes of this machine from a thread of its own."""

    def __init__(self, interval_s: float = 1.0) -> None:
        self._interval_s = interval_s
        self._processes: dict[tuple[str, str], psutil.Process] = {}
        self._stop = threading.Event()
        self.samples: list[dict[str, object]] = []
        self._thread = threading.Thread(target=self._run, name="resources", daemon=True)

    def add(self, component: str, instance: str, pid: int) -> None:
        """Sample process `pid` from now on, as long as it lives."""
        with contextlib.suppress(psutil.NoSuchProcess):
            self._processes[component, instance] = psutil.Process(pid)

    def start(self) -> None:
        """Begin to sample."""
        self._thread.start()

    def stop(self) -> None:
        """Take a last sample and stop."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self._sample()

    def _run(self) -> None:
        while not self._stop.wait(self._interval_s):
            self._sample()

    def _sample(self) -> None:
        now_ns = time.time_ns()
        for (component, instance), process in list(self._processes.items()):
            with contextlib.suppress(psutil.NoSuchProcess), process.oneshot():
                times = process.cpu_times()
                self.samples.append(
                    {
                        "time_ns": now_ns,
                        "component": component,
                        "instance": instance,
                        "cpu_s": times.user + times.system,
                        "rss_bytes": process.memory_info().rss,
                        "throttled_s": None,
                    }
                )
