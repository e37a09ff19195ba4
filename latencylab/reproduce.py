"""A recorded sweep carried out again, and whether it gave the same."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from latencylab import compare_runs, tables
from latencylab.compare import Change, Rule
from latencylab.execution import design_of, run_sweep
from latencylab.percentiles import label
from latencylab.runs import RunError, find_runs


@dataclass(frozen=True)
class Thresholds:
    """How far a percentile may be from the recorded one, as a share of it, either way. Tails vary more than medians."""

    by_quantile: dict[float, float] = field(default_factory=lambda: {0.5: 0.25, 0.9: 0.35, 0.99: 0.5})

    def told(self) -> str:
        """In words."""
        return ", ".join(f"{label(q)} within {limit:.0%}" for q, limit in self.by_quantile.items())


@dataclass(frozen=True)
class Reproduction:
    """The verdict, what speaks against it, and what could not be compared. Nothing compared is not reproduced."""

    reproduced: bool
    against: list[str]
    unknown: list[str]
    compared: int


def rerun(recorded: Path, root: Path, echo: Callable[[str], None]) -> Path:
    """Carry out the design recorded in folder `recorded` below `root`, under a name of its own; the new folder.

    Raises `RunError` when a run of it failed.
    """
    find_runs(recorded)
    design = design_of(recorded)
    again = design.model_copy(update={"name": f"{design.name}-reproduced"})
    outcome = run_sweep(again, root, new=True, echo=echo)
    if outcome.failed:
        raise RunError("\n".join(f"{run}: {reason}" for run, reason in outcome.failed.items()))
    return outcome.folder


def judge(recorded: Path, again: Path, thresholds: Thresholds | None = None) -> Reproduction:
    """Compare two recordings of one design.

    Reproduced means that every point is there with as many frames scheduled per run, that no valid point became
    invalid, and that each percentile which both sides have enough frames for is within its threshold by the geometric
    mean over the repetitions. A percentile that can't be compared is named and decides nothing.
    """
    thresholds = thresholds or Thresholds()
    rule = Rule(qs=tuple(thresholds.by_quantile))
    comparison = compare_runs.compare_folders(recorded, again, rule)
    against, unknown, compared = _structure(recorded, again), [], 0
    for point, found in comparison.points.items():
        if not found.changes:
            unknown.append(f"{point}: {found.reason}")
        for change in found.changes:
            if change.change is None:
                unknown.append(f"{point}: {change.reason}")
                continue
            compared += 1
            against += _beyond(point, change, thresholds.by_quantile[change.q])
    return Reproduction(not against and compared > 0, against, unknown, compared)


def _structure(recorded: Path, again: Path) -> list[str]:
    before, after = (tables.by_point(find_runs(folder)) for folder in (recorded, again))
    against = [f"{point} was not recorded again" for point in before if point not in after]
    for point in (point for point in before if point in after):
        scheduled = [sorted({run.info["counts"]["scheduled"] for run in side[point]}) for side in (before, after)]
        if scheduled[0] != scheduled[1]:
            against.append(f"{point}: {scheduled[0]} frames were scheduled in a run, now {scheduled[1]}")
        if all(run.valid for run in before[point]):
            against += [
                f"{run.info['run_id']} is invalid: {'; '.join(run.info['invalid_reasons'])}"
                for run in after[point]
                if not run.valid
            ]
    return against


def _beyond(point: str, change: Change, limit: float) -> list[str]:
    assert change.change is not None
    if abs(change.change) <= limit:
        return []
    return [f"{point}: {label(change.q)} changed by {change.change:+.1%}, more than {limit:.0%}"]
