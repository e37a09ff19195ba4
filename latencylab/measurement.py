"""One measurement: execute a run on a backend and leave a complete run folder."""

import fcntl
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pandas as pd
from tqdm.auto import tqdm

from latencylab import histograms, paths, provenance, summary, validity
from latencylab.backends.backend import Backend, BackendError, Progress, RunPlan
from latencylab.collect import Collected, collect, consumer_reports, scheduled_frames
from latencylab.experiment import Experiment
from latencylab.request import Request
from latencylab.runs import SCHEMA_VERSION, Run, staged
from latencylab.saturation import Window

# From publishing the start to the start: every producer must have heard of it, and every consumer have ended the poll
# in which it was given its partitions.
_LEAD_S: Final = 1.0


@contextmanager
def exclusive() -> Iterator[None]:
    """Let one measurement at a time use this machine; raise `BackendError` when another one is going on."""
    paths.data().mkdir(parents=True, exist_ok=True)
    with (paths.data() / ".measuring").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BackendError(
                "another measurement is going on in this project; two would disturb each other"
            ) from None
        yield


def measure(request: Request, backend: Backend, progress: Progress, bar: Callable[..., Any] = tqdm) -> Run:
    """Execute one repetition on `backend` (which is up) and return its folder; `bar` makes the load's progress bar.

    Interrupting it (Ctrl-C, the stop button) stops the run's consumers and producers and leaves no folder.
    Raises `BackendError` when the pipeline fails, `RunError` when the folder is there already.
    """
    folder = request.name.folder(request.root)
    plan = RunPlan(request.name.run_id, request.experiment, request.seed)
    with exclusive(), staged(folder) as staging:
        try:
            timing = _execute(plan, backend, staging, progress, bar)
        except BaseException:
            backend.abandon()
            raise
        began = time.monotonic()
        progress("joining the records")
        start_at_ns = timing.pop("start_at_ns")
        frames = scheduled_frames(request.experiment, request.seed, start_at_ns)
        collected = collect(staging, plan.run_id, frames)
        info = _describe(request, backend, staging, collected, timing | {"start_at_ns": start_at_ns})
        info["timing_s"]["collect"] += time.monotonic() - began
        (staging / "run.json").write_text(json.dumps(info, indent=1) + "\n")
    return Run.load(folder)


def _execute(
    plan: RunPlan, backend: Backend, staging: Path, progress: Progress, bar: Callable[..., Any]
) -> dict[str, Any]:
    marks = [time.monotonic()]
    backend.prepare(plan, progress)
    marks.append(time.monotonic())
    start_at_ns = backend.release(_LEAD_S)
    _wait_for_load(plan.experiment, backend, start_at_ns, bar)
    marks.append(time.monotonic())
    progress("waiting for the last frames")
    drained = _drain(backend, plan.experiment.drain_timeout_s)
    marks.append(time.monotonic())
    progress("collecting")
    backend.finish(staging)
    marks.append(time.monotonic())
    spans = {name: marks[i + 1] - marks[i] for i, name in enumerate(("prepare", "load", "drain", "collect"))}
    return {"start_at_ns": start_at_ns, "drained": drained, **spans}


def _wait_for_load(experiment: Experiment, backend: Backend, start_at_ns: int, bar: Callable[..., Any]) -> None:
    form = "{desc}: {percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} s"
    title = f"load, {experiment.offered_hz:g} frames/s"
    end_s = start_at_ns / 1e9 + experiment.duration_s
    with bar(total=experiment.duration_s, desc=title, bar_format=form, leave=False) as shown:
        while backend.producers_left() > 0:
            elapsed = time.time() - start_at_ns / 1e9
            shown.update(min(max(0.0, elapsed), experiment.duration_s) - shown.n)
            if time.time() > end_s + experiment.drain_timeout_s + 120:
                raise BackendError("producers did not end: their schedule and their delivery timeout are both over")
            time.sleep(0.2)


def _drain(backend: Backend, timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while any(backend.lag().values()):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


def _describe(
    request: Request, backend: Backend, staging: Path, collected: Collected, timing: dict[str, Any]
) -> dict[str, Any]:
    experiment = request.experiment
    frames = pd.read_parquet(staging / "frames.parquet", dtype_backend="numpy_nullable")
    producers = json.loads((staging / "producers.json").read_text())
    consumers = consumer_reports(staging)
    warmup = summary.warm_up(frames, experiment.max_warmup_s)
    evidence = validity.Evidence(
        frames=frames,
        collected=collected,
        incidents=backend.incidents(),
        consumer_reports=consumers,
        producer_reports=producers,
        window=judged_window(frames, warmup.cut, experiment, timing["start_at_ns"]),
        drained=timing["drained"],
    )
    running = backend.describe()
    spans = {name: timing[name] for name in ("prepare", "load", "drain", "collect")}
    return {
        "schema": SCHEMA_VERSION,
        "run_id": request.name.run_id,
        "sweep": request.name.sweep,
        "point": request.name.point,
        "point_order": request.point_order,
        "repetition": request.name.repetition,
        "experiment": experiment.model_dump(),
        "fingerprint": experiment.fingerprint(),
        "seed": request.seed,
        "recorded_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "start_at_ns": timing["start_at_ns"],
        "timing_s": spans,
        "counts": asdict(collected.counts),
        "dead_by_reason": collected.dead_by_reason,
        "invalid_reasons": validity.invalid_reasons(evidence),
        "summary": summary.summarise(frames, warmup, validity.backlog(evidence)),
        "histograms": histograms.summarise(staging),
        "caveats": running.pop("caveats"),
        "running": running,
        "git": provenance.git_state(),
        "versions": provenance.versions(),
        "clients": {
            "producer": producers[0].get("client", {}),
            "consumers": {report["consumer"]: report["kafka_client"] for report in consumers},
        },
        "clock": {
            "drift_ns": {report["consumer"]: report["clock_drift_ns"] for report in consumers}
            | {f"producer-{report['producer_index']}": report["drift_ns"] for report in producers},
        },
    }


def judged_window(frames: pd.DataFrame, cut: int, experiment: Experiment, start_at_ns: int) -> Window:
    """The part of a run that is judged: from the first frame after the warm-up of `cut` frames to the load's end."""
    first = int(summary.steady(frames, cut)["intended_ns"].min()) if len(frames) else start_at_ns
    end_ns = max(start_at_ns + int(experiment.duration_s * 1e9), first + 1)
    return Window(first, end_ns)
