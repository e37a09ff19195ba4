"""Sweeps carried out: one papermill execution of ``02_run_point`` per run, resumable, one failure at a time.

papermill and pandas are imported late: they take seconds, in which the pipeline can start already.
"""

import json
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tqdm.auto import tqdm

from latencylab import paths
from latencylab.backends.backend import BackendError, make_backend
from latencylab.request import Request
from latencylab.runs import Run, RunError
from latencylab.sweep import Sweep, check_resumable, record_design

if TYPE_CHECKING:
    from latencylab.kernels import SweepKernel

RUN_POINT: Final = paths.NOTEBOOKS / "02_run_point.ipynb"


@dataclass
class Outcome:
    """What became of a sweep: runs complete before, runs done now, failures by run id, seconds."""

    folder: Path
    skipped: int = 0
    done: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    wall_s: float = 0.0
    load_s: float = 0.0


def run_sweep(sweep: Sweep, root: Path, *, new: bool = False, echo: Callable[[str], None] = print) -> Outcome:
    """Carry out what is missing of `sweep` below `root`.

    Complete runs are skipped. A point that fails does not end the sweep; `Outcome.failed` names it. Raises `RunError`
    when the folder holds a sweep of other parameters and not `new`.
    """
    if new:
        sweep = sweep.model_copy(update={"name": free_name(sweep.name, root)})
    folder = root / sweep.name
    check_resumable(sweep, folder)
    record_design(sweep, folder)
    shutil.rmtree(folder / ".staging", ignore_errors=True)
    outcome = Outcome(folder)
    missing = []
    for request in sweep.requests():
        if request.name.folder(root).exists():
            outcome.skipped += 1
        else:
            missing.append(request)
    if outcome.skipped:
        echo(f"{outcome.skipped} of {len(sweep.requests())} runs are complete already")
    if missing:
        _carry_out(missing, root, outcome, echo)
    return outcome


def free_name(wanted: str, root: Path) -> str:
    """`wanted`, or with the first number behind it that no folder in `root` has."""
    name, number = wanted, 1
    while (root / name).exists():
        number += 1
        name = f"{wanted}-{number}"
    return name


def _carry_out(requests: list[Request], root: Path, outcome: Outcome, echo: Callable[[str], None]) -> None:
    began = time.monotonic()
    backends = {name: make_backend(name) for name in dict.fromkeys(r.experiment.backend for r in requests)}
    with (
        tqdm(total=len(requests), desc="runs", unit="run", leave=True) as bar,
        ThreadPoolExecutor(max_workers=1) as meanwhile,
    ):
        kernel = meanwhile.submit(start_kernel)  # imports for seconds, while the pipeline comes up
        try:
            for request in requests:
                bar.set_postfix_str(f"{request.name.point} r{request.name.repetition}")
                try:
                    backends[request.experiment.backend].up(request.experiment, bar.set_description_str)
                    bar.set_description_str("runs")
                    run = execute(request, root, kernel.result())
                except (BackendError, RunError, notebook_error()) as error:
                    outcome.failed[request.name.run_id] = reason_of(error)
                    bar.write(f"{request.name.run_id} failed: {reason_of(error).splitlines()[0]}")
                else:
                    outcome.done += 1
                    outcome.load_s += run.experiment.duration_s + run.info["timing_s"]["drain"]
                    bar.write(line_of(run))
                bar.update()
        finally:
            bar.set_description_str("stopping the pipeline")
            stopping_at_s = time.monotonic()
            try:
                kernel.result().end()
            finally:
                for backend in backends.values():
                    backend.down()
                bar.write(f"stopping took {time.monotonic() - stopping_at_s:.1f} s")
            bar.set_description_str("runs")
    outcome.wall_s = time.monotonic() - began


def start_kernel() -> "SweepKernel":
    """The kernel for a sweep's notebooks; by then papermill is imported, too."""
    from latencylab import notebooks  # noqa: F401
    from latencylab.kernels import SweepKernel

    return SweepKernel.start()


def notebook_error() -> type[Exception]:
    """What papermill raises when a cell fails."""
    from latencylab.notebooks import papermill

    return papermill.exceptions.PapermillExecutionError


def reason_of(error: BaseException) -> str:
    """Why a run failed, without the traceback of its notebook."""
    if isinstance(error, notebook_error()):
        return f"{error.ename}: {error.evalue}"  # type: ignore[attr-defined]
    return str(error)


def execute(request: Request, root: Path, kernel: "SweepKernel | None" = None) -> Run:
    """Execute ``02_run_point`` for one run and put folder and notebook into place together.

    Raises `PapermillExecutionError` when a cell fails; what it printed is kept in ``SWEEP/.failed``.
    """
    from latencylab.notebooks import execute_notebook

    folder = request.name.folder(root)
    staging = root / request.name.sweep / ".staging"
    staging.mkdir(parents=True, exist_ok=True)
    notebook = staging / f"{request.name.point}-r{request.name.repetition}.ipynb"
    parameters = {
        **request.experiment.model_dump(),
        "sweep": request.name.sweep,
        "point": request.name.point,
        "repetition": request.name.repetition,
        "point_order": request.point_order,
        "root": str(staging),
    }
    try:
        execute_notebook(RUN_POINT, notebook, parameters, timeout_s=_longest_s(request), kernel=kernel)
    except notebook_error():
        failed = root / request.name.sweep / ".failed"
        failed.mkdir(exist_ok=True)
        notebook.replace(failed / notebook.name)
        raise
    measured = request.name.folder(staging)
    notebook.replace(measured / "notebook.ipynb")
    folder.parent.mkdir(parents=True, exist_ok=True)
    measured.rename(folder)
    return Run.load(folder)


def _longest_s(request: Request) -> int:
    e = request.experiment
    return int(e.duration_s + e.drain_timeout_s + 600)


def line_of(run: Run) -> str:
    """One line about a run, as it is printed while a sweep goes on."""
    counts, p50 = run.info["counts"], run.info["summary"]["end_to_end_ns"][0]
    value = f"{p50['value'] / 1e6:.0f} ms" if p50["value"] is not None else "too few frames"
    verdict = "valid" if run.valid else "INVALID: " + "; ".join(run.info["invalid_reasons"])
    return f"{run.info['run_id']}: {counts['labelled']}/{counts['scheduled']} labelled, p50 {value}, {verdict}"


def design_of(folder: Path) -> Sweep:
    """The design that ``folder/sweep.json`` records. Raises `RunError`."""
    try:
        recorded = json.loads((folder / "sweep.json").read_text())
    except FileNotFoundError:
        raise RunError(f"{paths.shown(folder)} is no sweep: sweep.json is missing") from None
    except ValueError as error:
        raise RunError(f"{paths.shown(folder)}/sweep.json is damaged: {error}") from None
    return Sweep.parse(recorded, f"{folder.name}/sweep.json")
