"""What the processor is and how much of it this process may use."""

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_CPUINFO: Final = Path("/proc/cpuinfo")
_CGROUP_QUOTA: Final = Path("/sys/fs/cgroup/cpu.max")


@dataclass(frozen=True)
class Cpu:
    """Name and feature flags of the processor, and how many of its threads this process may keep busy."""

    model: str
    flags: frozenset[str]
    threads: int

    @property
    def has_bfloat16(self) -> bool:
        """Whether it multiplies bfloat16 in hardware; without, bfloat16 is emulated and slow."""
        return bool(self.flags & {"avx512_bf16", "amx_bf16"})


def read_cpu(cpuinfo: Path = _CPUINFO, quota: Path = _CGROUP_QUOTA) -> Cpu:
    """Read the processor from Linux' files; where they don't exist the model is ``unknown`` and has no flags."""
    fields: dict[str, str] = {}
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            name, _, value = line.partition(":")
            fields.setdefault(name.strip(), value.strip())
    return Cpu(
        model=fields.get("model name", "unknown"),
        flags=frozenset(fields.get("flags", fields.get("Features", "")).split()),
        threads=_usable_threads(quota),
    )


def _usable_threads(quota: Path) -> int:
    """What the affinity mask and the cgroup's quota leave us; TensorFlow itself would count the whole machine."""
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if quota.exists():
        limit, _, period = quota.read_text().strip().partition(" ")
        if limit != "max":
            threads = min(threads, math.ceil(int(limit) / int(period)))
    return max(threads, 1)
