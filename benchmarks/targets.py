"""What a benchmark has to show, and whether it did."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from tqdm.auto import tqdm

quiet_bar: Final = partial(tqdm, disable=None)
"""A progress bar that does not appear in a log."""


@dataclass(frozen=True)
class Verdict:
    """A target in words, what was measured of it in this run, and whether that meets it."""

    target: str
    measured: str
    met: bool


def print_verdicts(verdicts: Iterable[Verdict]) -> None:
    """One line each."""
    print("\ntargets, by the numbers of this run")
    for verdict in verdicts:
        print(f"  target {verdict.target}; measured {verdict.measured}: {'met' if verdict.met else 'NOT MET'}")


def spread(values: Sequence[float], digits: int = 2) -> str:
    """``median (least–most)``, or the value alone when there is only one."""
    middle = f"{statistics.median(values):.{digits}f}"
    return f"{middle} ({min(values):.{digits}f}–{max(values):.{digits}f})" if len(values) > 1 else middle
