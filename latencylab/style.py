"""How every figure looks: readable in grey and by the colour-blind, units on the axes, caveats in the footer."""

import io
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from latencylab.runs import Run
from latencylab.tables import caveats, what_ran

# Okabe and Ito, "Color Universal Design", 2008; ordered so that neighbours also differ in lightness.
COLOURS: Final = ("#000000", "#E69F00", "#0072B2", "#56B4E9", "#D55E00", "#009E73", "#CC79A7")
LINES: Final = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (8, 2)))
MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X")
HATCHES: Final = ("", "//", "..", "xx", "\\\\", "++", "oo")

_LEAST_TICKS: Final = 3

_RC: Any = {
    "figure.dpi": 110,
    "savefig.dpi": 144,
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "svg.hashsalt": "latencylab",  # the same data give the same file
    "svg.fonttype": "none",
}


@dataclass(frozen=True)
class Drawn:
    """A figure, the table of what it shows, and a sentence that says it to who can't see it."""

    figure: Figure
    data: pd.DataFrame
    alt: str


def looks(count: int) -> list[dict[str, Any]]:
    """Colour, line style and marker for `count` series."""
    styles = zip(cycle(COLOURS), cycle(LINES), cycle(MARKERS), strict=False)
    return [{"color": c, "linestyle": line, "marker": m} for (c, line, m), _ in zip(styles, range(count), strict=False)]


def new_figure(width: float = 8.0, height: float = 4.8, rows: int = 1, columns: int = 1) -> tuple[Figure, Any]:
    """A figure with the house style, and its axes; not registered with pyplot, so nothing piles up."""
    with mpl.rc_context(_RC):
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False)
    return figure, axes if rows * columns > 1 else axes[0, 0]


class _PlainLogLocator(LogLocator):
    """Ticks at 1, 2 and 5 of each decade, or denser where fewer than three of these would be seen."""

    def tick_values(self, vmin: float, vmax: float) -> Any:
        for locator in (
            LogLocator(10, (1.0, 2.0, 5.0)),
            LogLocator(10, (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0)),
            MaxNLocator(5),
        ):
            ticks = locator.tick_values(vmin, vmax)
            if sum(vmin <= tick <= vmax for tick in ticks) >= _LEAST_TICKS:
                break
        return ticks


def latency_axis(axis: Any, label: str = "end-to-end latency (ms)") -> None:
    """A logarithmic axis in ms, labelled in plain numbers."""
    axis.set_label_text(label)
    axis.set_major_locator(_PlainLogLocator())
    axis.set_minor_formatter(NullFormatter())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def footer(figure: Figure, runs: Iterable[Run]) -> str:
    """Write below the figure what its numbers depend on, and return it."""
    listed = list(runs)
    parts = {**what_ran(listed), "commit": {_commit(run) for run in listed}}
    text = " · ".join(f"{name}: {', '.join(sorted(values))}" for name, values in parts.items())
    invalid = sum(not run.valid for run in listed)
    if invalid:
        text += f" · {invalid} of {len(listed)} runs are INVALID (dotted outline or faint)"
    notes = list(dict.fromkeys(note for run in listed for note in caveats(run)))
    lines = [text, *notes]
    wrapped = "\n".join(line for text in lines for line in textwrap.wrap(text, int(figure.get_figwidth() * 15.5)))
    figure.supxlabel(wrapped, fontsize=7.5, color="#444444", x=0.01, ha="left")
    return wrapped


def _commit(run: Run) -> str:
    git = run.info["git"]
    if git["commit"] is None:
        return "none"
    return git["commit"][:10] + ("+changes" if git["dirty"] else "")


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write ``stem.png`` and ``stem.svg``; the files hold no date, so that equal data give equal files."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    paths = [stem.with_suffix(".png"), stem.with_suffix(".svg")]
    with mpl.rc_context(_RC):
        figure.savefig(paths[0], metadata={"Software": None})
        figure.set_layout_engine("none")  # it is laid out: once is enough
        figure.savefig(paths[1], metadata={"Date": None})
    return paths


def png(figure: Figure) -> bytes:
    """The figure as PNG, the same bytes for the same data."""
    data = io.BytesIO()
    with mpl.rc_context(_RC):
        figure.savefig(data, format="png", metadata={"Software": None})
    return data.getvalue()
