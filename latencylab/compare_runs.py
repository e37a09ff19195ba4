"""Two folders of recorded runs compared: point by point, as a table, a figure and an exit status."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from latencylab import compare, paths, style, summary, tables
from latencylab.compare import PointComparison, Rule
from latencylab.percentiles import label
from latencylab.runs import Run, find_runs
from latencylab.style import Drawn


@dataclass(frozen=True)
class Side:
    """One system: where its runs are, and its valid and invalid runs by point."""

    name: str
    valid: dict[str, list[Run]]
    invalid: list[Run]


@dataclass(frozen=True)
class Comparison:
    """A and B, the rule, and a comparison for each point. Points are named ``A-POINT → B-POINT`` where they differ."""

    a: Side
    b: Side
    rule: Rule
    points: dict[str, PointComparison]

    @property
    def exit_status(self) -> int:
        """As `latencylab.compare.exit_status`: 0 no worse, 1 worse somewhere, 3 can't tell."""
        return compare.exit_status(self.points.values())


def latencies_ns(run: Run) -> np.ndarray:
    """End-to-end latency of each labelled frame after the warm-up, shape ``(n,)``, ns."""
    kept = summary.steady(run.frames, run.info["summary"]["warmup"]["frames"])
    return summary.end_to_end_ns(kept).to_numpy()


def side(folder: Path) -> Side:
    """The runs below `folder`. Invalid runs can't stand for a system; they are set apart and named."""
    runs = find_runs(folder)
    points: dict[str, list[Run]] = {point: [] for point in tables.by_point(runs)}
    for run in runs:
        if run.valid:
            points[run.point].append(run)
    return Side(paths.shown(folder), points, [run for run in runs if not run.valid])


def compare_folders(a: Path, b: Path, rule: Rule | None = None) -> Comparison:
    """Compare the runs below two folders: points of the same name, or the one point of each whatever its name.

    Raises `RunError` when a folder has no complete run.
    """
    first, second = side(a), side(b)
    if len(first.valid) == len(second.valid) == 1 and first.valid.keys() != second.valid.keys():
        ((name_a, runs_a),), ((name_b, runs_b),) = first.valid.items(), second.valid.items()
        pair = f"{name_a} → {name_b}"
        first, second = (
            Side(first.name, {pair: runs_a}, first.invalid),
            Side(second.name, {pair: runs_b}, second.invalid),
        )
    rule = rule or Rule()
    return Comparison(first, second, rule, compare.compare_sweeps(_values(first, rule), _values(second, rule), rule))


def _values(system: Side, rule: Rule) -> dict[str, compare.RunValues]:
    return {
        point: compare.run_values([latencies_ns(run) for run in runs], rule.qs) for point, runs in system.valid.items()
    }


def change_table(comparison: Comparison) -> pd.DataFrame:
    """One row per point and percentile: A and B in ms, the change with its interval, the verdict; as text."""
    rows = []
    for point, compared in comparison.points.items():
        for change in compared.changes:
            interval = f"[{change.low:+.1%}, {change.high:+.1%}]" if change.low is not None else "–"
            rows.append(
                {
                    "point": point,
                    "percentile": label(change.q),
                    "A ms": _ms(change.a_ns),
                    "B ms": _ms(change.b_ns),
                    "change": f"{change.change:+.1%}" if change.change is not None else "–",
                    "interval": interval,
                    "verdict": change.verdict,
                }
            )
    return pd.DataFrame(rows, columns=["point", "percentile", "A ms", "B ms", "change", "interval", "verdict"])


def _ms(value_ns: float | None) -> str:
    return "–" if value_ns is None else f"{value_ns / 1e6:.1f}"


def verdict_lines(comparison: Comparison) -> list[str]:
    """The verdict of each point, what it was judged by, what did not run alike, and the runs that were left out."""
    rule = comparison.rule
    lines = [f"{point}: {compared}" for point, compared in comparison.points.items()]
    lines.append(f"All intervals hold together at {rule.confidence:.0%}; equivalent means within {rule.margin:.0%}.")
    ran_a, ran_b = (tables.what_ran(_all_runs([system])) for system in (comparison.a, comparison.b))
    for part in ran_a:
        if ran_a[part] != ran_b[part]:
            a, b = (", ".join(sorted(ran[part])) for ran in (ran_a, ran_b))
            lines.append(f"A and B differ in {part}: A ran {a}, B ran {b}.")
    for name, system in (("A", comparison.a), ("B", comparison.b)):
        for run in system.invalid:
            lines.append(
                f"Left out of {name}, invalid: {run.info['run_id']}: {'; '.join(run.info['invalid_reasons'])}."
            )
    return lines


def quantile_shift(comparison: Comparison) -> Drawn:
    """The change of each quantile from A to B per point; a bar where there are repetitions enough for an interval."""
    figure, axes = style.new_figure()
    shared = [point for point in comparison.points if _runs_of(comparison.a, point) and _runs_of(comparison.b, point)]
    parts = []
    for point, look in zip(shared, style.looks(len(shared)), strict=True):
        own = compare.quantile_shift(
            [latencies_ns(run) for run in comparison.a.valid[point]],
            [latencies_ns(run) for run in comparison.b.valid[point]],
        ).astype(float)
        axes.plot(100 * own["q"], 100 * own["change"], markersize=4, label=point, **look)
        axes.fill_between(100 * own["q"], 100 * own["low"], 100 * own["high"], color=look["color"], alpha=0.15)
        parts.append(own.assign(point=point))
    margin = 100 * comparison.rule.margin
    axes.axhspan(-margin, margin, color="#009E73", alpha=0.12, label=f"within the margin of {margin:g} %")
    axes.axhline(0, color="#444444", linewidth=0.8)
    axes.set_xlabel("quantile of the end-to-end latency (%)")
    axes.set_ylabel("change from A to B (%)")
    axes.set_title(f"A: {comparison.a.name}   B: {comparison.b.name}", loc="left", fontsize=10)
    axes.legend(title="point")
    style.footer(figure, _all_runs((comparison.a, comparison.b)))
    columns = ["point", "q", "a_ns", "b_ns", "change", "low", "high"]
    data = pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)
    medians = data[data["q"] == 0.5].dropna(subset=["change"])
    told = ", ".join(f"{row.point} {row.change:+.0%}" for row in medians.itertuples()) or "not known"
    return Drawn(figure, data, f"Change of each quantile from A to B; of the median: {told}.")


def _runs_of(system: Side, point: str) -> list[Run]:
    return system.valid.get(point, [])


def _all_runs(sides: Iterable[Side]) -> list[Run]:
    return [run for system in sides for runs in [*system.valid.values(), system.invalid] for run in runs]
