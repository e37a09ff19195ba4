"""The capacity search carried out: one run folder per probe, each an execution of ``02_run_point``."""

import math
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

from tqdm.auto import tqdm

from latencylab import execution, summary, tables
from latencylab.backends.backend import Backend
from latencylab.capacity import BLUR, CapacityLog, Objective, Outcome, Plan, search
from latencylab.experiment import Experiment, ExperimentError
from latencylab.kernels import SweepKernel
from latencylab.measurement import judged_window
from latencylab.request import Request
from latencylab.runs import Run, RunError, RunName, find_runs
from latencylab.saturation import backlog_slope
from latencylab.sweep import OVERHEAD_PER_RUN_S, Sweep

RECORD: Final = "capacity.jsonl"
"""The file in the folder of a search that holds its plan, its objective and the verdict of every probe."""

OPTIONS: Final = ("point", "name", "objective_ms", "percentile", *(option.name for option in fields(Plan)))
"""What a search is asked by, beside the sweep file: in the notebook, and on the command line with dashes."""


@dataclass(frozen=True)
class Design:
    """What is searched: the rate of all cameras of `base` together that meets `objective`, as `plan` says."""

    name: str
    base: Experiment
    objective: Objective
    plan: Plan

    def __post_init__(self) -> None:
        if self.base.arrivals == "trace":
            raise ExperimentError(
                "arrivals: a trace has its own rate, which can't be searched: use constant or poisson"
            )
        for limit in ("min_hz", "max_hz"):
            try:
                self.request(getattr(self.plan, limit), 0)
            except ExperimentError as error:
                told = f"{limit} {getattr(self.plan, limit):g} on {self.base.cameras} cameras is not possible: {error}"
                raise ExperimentError(told) from None

    @classmethod
    def load(cls, file: Path, options: Mapping[str, Any]) -> "Design":
        """Read the point from a sweep file.

        `options` are those of `OPTIONS`; ``point`` and ``name`` may be empty. Raises `SweepError` or `ExperimentError`.
        """
        chosen = dict(options)
        points = Sweep.load(file).experiments()
        point, name = chosen.pop("point"), chosen.pop("name")
        if not point and len(points) == 1:
            (point,) = points
        if point not in points:
            raise ExperimentError(f"{file}: name one of its points: {', '.join(points)} (got {point!r})")
        objective = Objective.of(chosen.pop("percentile"), chosen.pop("objective_ms"))
        return cls(name or f"{file.stem}-{point}-capacity", points[point], objective, Plan(**chosen))

    def request(self, rate_hz: float, repetition: int) -> Request:
        """The run that probes `rate_hz`, in frames/s of all cameras; repetitions count from 0.

        Raises `ExperimentError` when the experiment can't have that rate.
        """
        values = self.base.model_dump() | {"rate_hz": rate_hz / self.base.cameras}
        name = RunName(self.name, f"rate={rate_hz:.10g}", repetition + 1)
        return Request(name, Experiment.parse(values), round(1000 * rate_hz))

    def conditions(self) -> dict[str, Any]:
        """What the outcomes depend on, for the record."""
        return {
            "q": self.objective.q,
            "limit_ns": self.objective.limit_ns,
            "experiment": self.base.model_dump(exclude={"rate_hz"}),
        }

    def most_runs(self) -> int:
        """About how many runs the search takes at most: doubling to the limit, then repeating each rate at the edge."""
        doublings = math.ceil(math.log2(self.plan.max_hz / self.plan.start_hz))
        halvings = math.log2(1 / self.plan.resolution)
        nearing = max(halvings - math.log2(BLUR), 0)
        return doublings + self.plan.repetitions * (2 + math.ceil(halvings) + math.ceil(nearing))

    def estimated_s(self) -> float:
        """Seconds that so many runs take, the start of the pipeline left out."""
        return self.most_runs() * (self.base.duration_s + OVERHEAD_PER_RUN_S)

    def cost(self) -> str:
        """What the search may take, in words."""
        return f"at most about {self.most_runs()} runs, {self.estimated_s() / 60:.0f} min and the start of the pipeline"


def run_search(design: Design, root: Path, *, new: bool = False, echo: Callable[[str], None] = print) -> Path:
    """Search below `root` and return the folder, with a run folder for each probe and the `RECORD`.

    Runs that are in the folder are judged, not made again: a search that was interrupted goes on, and one with another
    objective or resolution uses them, too. Raises `RunError` when they were made with other parameters and not `new`,
    or when a probe fails; the same command then goes on where it stopped.
    """
    if new:
        design = replace(design, name=execution.free_name(design.name, root))
    folder = root / design.name
    _check_resumable(design, folder)
    shutil.rmtree(folder / ".staging", ignore_errors=True)
    with _probing(design, root, echo) as probe:
        search(probe, design.plan, CapacityLog(design.plan, folder / RECORD, design.conditions()))
    return folder


def _check_resumable(design: Design, folder: Path) -> None:
    if not any(folder.glob("*/*/run.json")):
        return
    wanted = design.conditions()["experiment"]
    for run in find_runs(folder):
        made = run.experiment.model_dump(exclude={"rate_hz"})
        if changed := sorted(name for name in wanted if made[name] != wanted[name]):
            raise RunError(
                f"{folder.name} was begun with other {', '.join(changed)}: finish it with the old values, or record "
                "the new search apart with --new"
            )


@contextmanager
def _probing(design: Design, root: Path, echo: Callable[[str], None]) -> Iterator[Callable[[float, int], Outcome]]:
    """A probe that brings the pipeline up when the first run is to be made; it is taken down at the end."""
    backend: Backend | None = None
    kernel: SweepKernel | None = None
    with tqdm(total=None, bar_format="{desc} ({elapsed})") as bar:

        def probe(rate_hz: float, repetition: int) -> Outcome:
            nonlocal backend, kernel
            request = design.request(rate_hz, repetition)
            if request.name.folder(root).exists():
                run = Run.load(request.name.folder(root))
            else:
                backend = backend or execution.make_backend(design.base.backend)
                backend.up(request.experiment, bar.set_description_str)
                kernel = kernel or execution.start_kernel()
                bar.set_description_str(f"{rate_hz:g} frames/s, repetition {repetition + 1}")
                try:
                    run = execution.execute(request, root, kernel)
                except execution.notebook_error() as error:
                    raise RunError(f"{request.name.run_id} failed: {execution.reason_of(error)}") from error
            outcome = judge(design.objective, run)
            with bar.external_write_mode():
                echo(f"{rate_hz:g} frames/s, repetition {repetition + 1}: {verdict_of(outcome)}")
            return outcome

        try:
            yield probe
        finally:
            bar.set_description_str("stopping the pipeline")
            try:
                if kernel is not None:
                    kernel.end()
            finally:
                if backend is not None:
                    backend.down()


def judge(objective: Objective, run: Run) -> Outcome:
    """Judge a run by `objective` after its warm-up, a frame that was not labelled being lost.

    A run that is invalid for whatever reason (a late producer, a frame not stored, a component that ended) does not
    meet the objective, since nothing can be claimed of it: the capacity errs to the low side.
    """
    cut = run.info["summary"]["warmup"]["frames"]
    kept = summary.steady(run.frames, cut)
    latencies = summary.end_to_end_ns(kept)
    finished = run.frames["labelled_ns"].dropna().astype("int64")
    sent = run.frames["sent_ns"].dropna().astype("int64")
    window = judged_window(run.frames, cut, run.experiment, run.info["start_at_ns"])
    caveats = tuple(tables.caveats(run))
    try:
        backlog = backlog_slope(sent, finished, window)
    except ValueError as error:
        return Outcome(False, (str(error),), caveats=caveats)
    found = objective.judge(latencies, len(kept) - len(latencies), backlog)
    reasons = found.reasons
    if found.meets and not run.valid:
        reasons = tuple(f"invalid run: {reason}" for reason in run.info["invalid_reasons"])
    return replace(found, meets=not reasons, reasons=reasons, caveats=caveats)


def verdict_of(outcome: Outcome) -> str:
    """The verdict of one probe in words."""
    return "met" if outcome.meets else "NOT met: " + "; ".join(outcome.reasons)
