"""The latencies of a run that is going on, and their plot."""

import csv
import io
import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from matplotlib.ticker import MaxNLocator

from services.contract.latency_csv import INFERENCE_COLUMNS

SHOWN: Final = 500  # frames in the plot: the newest

_INTENDED, _LABELLED = INFERENCE_COLUMNS.index("intended_ns"), INFERENCE_COLUMNS.index("labelled_ns")


@dataclass
class LiveLatencies:
    """What the inference consumers have written so far: per frame its intended time and its end-to-end latency, in ns.

    The source is their latency CSVs, which grow during the run: reading what was added costs the pipeline nothing.
    A row is there when the consumer has handed it on, after MongoDB's acknowledgement and before it commits the frame.
    A frame that was delivered twice counts twice.
    """

    intended_ns: list[int] = field(default_factory=list)
    latency_ns: list[int] = field(default_factory=list)
    _read_up_to: dict[Path, int] = field(default_factory=dict)

    def read(self, folder: Path) -> None:
        """Take in the whole rows that were added below `folder` since the last call; no folder, no rows."""
        for path in sorted(folder.glob("inference-consumer-*.csv")):
            begin = self._read_up_to.get(path, 0)
            try:
                with path.open("rb") as file:
                    file.seek(begin)
                    added = file.read()
            except FileNotFoundError:  # the run has just ended
                continue
            whole = added[: added.rfind(b"\n") + 1]
            self._read_up_to[path] = begin + len(whole)
            rows = list(csv.reader(io.StringIO(whole.decode(), newline="")))
            for row in rows[1:] if begin == 0 else rows:
                self.intended_ns.append(int(row[_INTENDED]))
                self.latency_ns.append(int(row[_LABELLED]) - int(row[_INTENDED]))

    def told(self) -> str:
        """The plot in words."""
        if not self.latency_ns:
            return "No frame has come through yet."
        median, slowest, newest = (
            f"{value / 1e6:.0f} ms"
            for value in (statistics.median(self.latency_ns), max(self.latency_ns), self.latency_ns[-1])
        )
        return f"{len(self.latency_ns)} frames so far: median {median}, slowest {slowest}, newest {newest}."


_WIDTH, _HEIGHT = 640, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 14, 12, 40
_INK, _GRID, _DOT = "var(--jp-ui-font-color1, #222)", "var(--jp-border-color2, #ccc)", "var(--jp-brand-color1, #0b4f8a)"


def svg(seen: LiveLatencies, duration_s: float) -> str:
    """Latency over the time since the first frame, as an SVG element in the colours of the editor's theme.

    Written by hand because it is drawn during a measurement: 500 frames take 3 ms, Matplotlib 190 ms.
    """
    latest = list(zip(seen.intended_ns, seen.latency_ns, strict=True))[-SHOWN:]
    start_ns = min(seen.intended_ns, default=0)
    points = [((intended - start_ns) / 1e9, latency / 1e6) for intended, latency in latest]
    ticks_ms = MaxNLocator(4, integer=True).tick_values(0, max([latency for _, latency in points], default=1.0))
    shown_s = [at for at, _ in points] or [0.0]
    ticks_s = MaxNLocator(6).tick_values(min(shown_s), max(duration_s, *shown_s))

    def x(at_s: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (at_s - ticks_s[0]) / (ticks_s[-1] - ticks_s[0])

    def y(latency_ms: float) -> float:
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * latency_ms / ticks_ms[-1]

    centre, middle = (_WIDTH + _LEFT) / 2, (_HEIGHT - _BOTTOM + _TOP) / 2
    parts = [
        f'<svg role="img" aria-label="{seen.told()}" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        f'style="width:100%; max-width:{_WIDTH}px; font-size:12px" fill="{_INK}">'
    ]
    for tick in ticks_ms:
        parts.append(
            f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}" stroke="{_GRID}"/>'
        )
        parts.append(f'<text x="{_LEFT - 8}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for tick in ticks_s:
        parts.append(f'<text x="{x(tick):.1f}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="middle">{tick:g}</text>')
    parts += [
        f'<text x="{centre}" y="{_HEIGHT - 6}" text-anchor="middle">intended send time (s since the first)</text>',
        f'<text transform="translate(14 {middle}) rotate(-90)" text-anchor="middle">end-to-end latency (ms)</text>',
    ]
    parts += [
        f'<circle cx="{x(at):.1f}" cy="{y(ms):.1f}" r="3" fill="{_DOT}" fill-opacity="0.7"/>' for at, ms in points
    ]
    return "".join([*parts, "</svg>"])
