"""The panel of ``02_run_point``: choose a point, watch its run, stop it."""

import contextlib
import threading
from html import escape
from typing import Any, Final

import ipywidgets

from latencylab import paths, tables
from latencylab.background import BackgroundRun
from latencylab.experiment import Experiment, ExperimentError
from latencylab.live import LiveLatencies, svg
from latencylab.request import Request
from latencylab.runs import Run, RunError, RunName, next_repetition
from latencylab.sweep import Sweep, SweepError, point_name

REFRESH_S: Final = 1.0

AS_GIVEN: Final = "the parameters above"

_COUNT: Final = (ipywidgets.BoundedIntText, {"min": 1.0, "max": 1_000.0})
_FIELDS: Final[dict[str, tuple[str, Any, dict[str, float]]]] = {
    "producers": ("Producers", *_COUNT),
    "cameras_per_producer": ("Cameras per producer", *_COUNT),
    "rate_hz": ("Frames/s per camera", ipywidgets.BoundedFloatText, {"min": 0.01, "max": 10_000.0, "step": 0.5}),
    "duration_s": ("Load (s)", ipywidgets.BoundedFloatText, {"min": 0.1, "max": 86_400.0, "step": 5.0}),
}
"""The parameters that can be changed in the panel, and how; all others are those of the chosen point."""


def offered(given: Experiment) -> dict[str, Experiment]:
    """The points to choose from: `given`, and those of the sweep files for the same backend."""
    found = {AS_GIVEN: given}
    for file in sorted(paths.EXPERIMENTS.glob("*.yaml")):
        with contextlib.suppress(SweepError):  # one that is being edited must not keep the panel away
            sweep = Sweep.load(file)
            found |= {f"{sweep.name}: {n}": e for n, e in sweep.experiments().items() if e.backend == given.backend}
    return found


def next_request(wanted: Request, experiment: Experiment) -> Request:
    """The next free repetition of `experiment` in the sweep of `wanted`; other parameters than those of `wanted` make
    another point, named by what differs from the defaults."""
    point = wanted.name.point
    if experiment != wanted.experiment:
        values = experiment.model_dump().items()
        point = point_name({name: v for name, v in values if v != Experiment.model_fields[name].default})
    sweep = wanted.name.sweep
    name = RunName(sweep, point, next_repetition(wanted.root, sweep, point))
    return Request(name, experiment, wanted.point_order, wanted.root)


class RunPanel:
    """The widgets, and the run that was begun last. Buttons may be pressed from any thread."""

    def __init__(self, wanted: Request) -> None:
        self._wanted = wanted
        self._offered = offered(wanted.experiment)
        self._running: BackgroundRun | None = None
        self._concluded = threading.Event()
        self._lock = threading.Lock()
        wide = {"style": {"description_width": "10rem"}, "layout": ipywidgets.Layout(width="21rem")}
        self.point = ipywidgets.Dropdown(options=list(self._offered), description="Point", **wide)
        self.fields = {
            name: kind(description=label, tooltip=Experiment.model_fields[name].description, **limits, **wide)
            for name, (label, kind, limits) in _FIELDS.items()
        }
        self.begin = ipywidgets.Button(description="Run", button_style="primary")
        self.end = ipywidgets.Button(description="Stop", disabled=True)
        self.status, self.plot, self.outcome = ipywidgets.HTML(), ipywidgets.HTML(), ipywidgets.HTML()
        self.point.observe(self._choose, "value")
        self.begin.on_click(self.run)
        self.end.on_click(self.stop)
        self._choose()
        fields = ipywidgets.HBox(list(self.fields.values()), layout=ipywidgets.Layout(flex_flow="row wrap"))
        buttons = ipywidgets.HBox([self.begin, self.end])
        self.widget = ipywidgets.VBox([self.point, fields, buttons, self.status, self.plot, self.outcome])

    def _choose(self, _: Any = None) -> None:
        experiment = self._offered[self.point.value]
        for name, field in self.fields.items():
            field.value = getattr(experiment, name)

    def run(self, _: Any = None) -> None:
        """Begin a run of the point as the fields say, unless one is going on."""
        with self._lock:
            if self._running is not None and not self._concluded.is_set():
                return
            values = {name: field.value for name, field in self.fields.items()}
            try:
                experiment = Experiment.parse(self._offered[self.point.value].model_dump() | values)
                self._running = BackgroundRun(next_request(self._wanted, experiment))
            except (ExperimentError, RunError) as error:
                self._running = None
                self.outcome.value = _alert(str(error))
                return
            self._concluded.clear()
            self.begin.disabled, self.end.disabled = True, False
            self.plot.value = self.outcome.value = ""
            self._running.start()
            threading.Thread(target=self._watch, args=(self._running,), name="panel", daemon=True).start()

    def stop(self, _: Any = None) -> None:
        """Stop the run that is going on; nothing of it is kept."""
        with self._lock:
            if self._running is not None:
                self.end.disabled = True
                self._running.interrupt()

    def result(self) -> Run:
        """The run that was begun last, or that of one begun now; waits for its end, and an interruption stops it.

        Raises what ended it when there is none.
        """
        if self._running is None:
            self.run()
        if (running := self._running) is None:
            raise ExperimentError("these parameters can't be run: the panel says why")
        try:
            self._concluded.wait()
        except KeyboardInterrupt:
            self.stop()
            self._concluded.wait()
            raise
        if running.measured is None:
            raise running.failure or RunError("no run")
        return running.measured

    def _watch(self, running: BackgroundRun) -> None:
        seen = LiveLatencies()
        try:
            while running.is_alive():
                self._refresh(running, seen)
                running.join(REFRESH_S)
        finally:
            running.join()
            self.status.value, self.outcome.value = "", _conclusion(running)
            self.begin.disabled, self.end.disabled = False, True
            self._concluded.set()

    def _refresh(self, running: BackgroundRun, seen: LiveLatencies) -> None:
        stopping = "stopping: " if self.end.disabled else ""
        self.status.value = escape(f"{running.request.name.run_id}: {stopping}{running.phase}")
        if running.backend is None:
            return
        before = len(seen.latency_ns)
        if (records := running.backend.growing_records()) is None:
            self.plot.value = "No live plot: on this backend the records can be read only when the run has ended."
        else:
            seen.read(records)
        if len(seen.latency_ns) > before:
            self.plot.value = f"{svg(seen, running.request.experiment.duration_s)}<div>{seen.told()}</div>"


def _conclusion(running: BackgroundRun) -> str:
    if running.measured is not None:
        folder, told = escape(paths.shown(running.measured.folder)), escape(tables.verdict(running.measured))
        return (
            f'<div role="status">Recorded in <code>{folder}</code>. The cells below show it.</div>'
            f'<pre tabindex="0" role="region" aria-label="Verdict" style="overflow-x:auto">{told}</pre>'
        )
    if isinstance(running.failure, KeyboardInterrupt):
        return '<div role="status">Stopped; nothing of the run was kept.</div>'
    return _alert(f"{type(running.failure).__name__}: {running.failure}")


def _alert(text: str) -> str:
    return f'<pre role="alert" style="white-space:pre-wrap">{escape(text)}</pre>'
