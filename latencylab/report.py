"""What a sweep ends with: the table, what must be read with it, and where the figures are."""

from collections.abc import Callable

from latencylab import figures, paths, tables
from latencylab.crate import write_crate
from latencylab.execution import Outcome
from latencylab.report_html import write_report
from latencylab.runs import RunError, find_runs


def print_sweep(outcome: Outcome, echo: Callable[[str], None]) -> None:
    """Print the table of a sweep's points, its notes and the paths of its figures."""
    try:
        runs = find_runs(outcome.folder)
    except RunError:
        runs = []
    if runs:
        echo("")
        echo(tables.point_table(runs).to_string(index=False))
        echo("\nPercentiles: end to end from the intended send time, in ms [95 % interval].")
        for note in tables.notes(runs):
            echo(note)
        drawn = figures.render(runs, outcome.folder / "figures")
        echo("\nFigures:")
        for path in drawn:
            echo(f"  {paths.shown(path)}")
        echo(f"Report: {paths.shown(write_report(outcome.folder))}")
        write_crate(outcome.folder)
    for run_id, reason in outcome.failed.items():
        echo(f"FAILED {run_id}: {reason}")
    if outcome.done:
        load_s, wall_s = outcome.load_s, outcome.wall_s
        echo(
            f"\n{wall_s:.0f} s, of which {load_s:.0f} s under load or draining: {1 - load_s / wall_s:.0%} outside load."
        )
    if outcome.failed:
        echo("The failed runs are tried again by the same command without --new.")
