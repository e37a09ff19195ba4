"""What the notebooks call: one function per cell, so that a cell holds no logic of its own."""

from typing import TYPE_CHECKING, Any

from IPython.display import Image, Markdown, display
from tqdm.auto import tqdm

from latencylab import capacity_report, compare_runs, figures, measurement, paths, stages, style, tables
from latencylab.backends.backend import make_backend, open_backend
from latencylab.capacity import Objective
from latencylab.capacity_report import Found
from latencylab.capacity_search import OPTIONS, RECORD, Design, run_search
from latencylab.chameleon.during import lease_kept
from latencylab.compare import Rule
from latencylab.compare_runs import Comparison
from latencylab.experiment import Experiment
from latencylab.front_end import attended
from latencylab.picker import Choice, show_picker
from latencylab.request import Request
from latencylab.runs import Run, RunName, all_frames, find_runs, next_repetition

if TYPE_CHECKING:
    from latencylab.panel import RunPanel


def experiment(**parameters: Any) -> Experiment:
    """The experiment with these parameters. Raises `ExperimentError` naming what is wrong."""
    return Experiment.parse(parameters)


def request(namespace: dict[str, Any]) -> Request:
    """The run that the parameters in a notebook's `namespace` ask for; repetition 0 is the next that is free.

    Raises `ExperimentError` or `RunError`.
    """
    parameters = {name: namespace[name] for name in Experiment.model_fields if name in namespace}
    root = paths.resolve(namespace["root"]) if namespace["root"] else paths.runs()
    sweep, point = namespace["sweep"], namespace["point"]
    name = RunName(sweep, point, namespace["repetition"] or next_repetition(root, sweep, point))
    return Request(name, Experiment.parse(parameters), namespace["point_order"], root)


def deploy(wanted: Experiment) -> dict[str, Any]:
    """Bring the pipeline up and leave it up; what is running. An interruption takes it down again."""
    backend = make_backend(wanted.backend, keep=True)
    with tqdm(total=None, bar_format="{desc} ({elapsed})") as bar:
        try:
            backend.up(wanted, bar.set_description_str)
        except BaseException:
            backend.end_leftovers(False)
            raise
        return backend.describe()


def describe(running: dict[str, Any]) -> None:
    """Show what is running as a short list."""
    server, database, broker = running["server"], running["database"], running["broker"]
    lines = [
        f"- broker: {broker['name']} {broker['version']}",
        f"- database: {database['name']} {database['version']}",
        f"- server: {server['model']}, weights {server['weights']}, engine {server['engine']['form']}",
        *(f"- host {host['name']}: {host['cpu']}, {host['cores']} cores" for host in running["hosts"]),
        *(f"- **caveat**: {caveat}" for caveat in running["caveats"]),
    ]
    display(Markdown("\n".join(lines)))


def panel(wanted: Request) -> "RunPanel | None":
    """Show a panel to choose a point, watch its run and stop it; where nobody is there to use it, nothing (None)."""
    if not attended():
        return None
    from latencylab.panel import RunPanel

    shown = RunPanel(wanted)
    display(shown.widget)
    return shown


def measure(wanted: Request, panel: "RunPanel | None" = None) -> Run:
    """Execute the run, on the stack that is up or on one of its own; with a `panel`, give the run that was last begun
    there, or begin one there."""
    if panel is not None:
        return panel.result()
    with (
        tqdm(total=None, bar_format="{desc} ({elapsed})") as bar,
        open_backend(wanted.experiment, bar.set_description_str) as backend,
    ):
        return measurement.measure(wanted, backend, bar.set_description_str)


def verdict(run: Run) -> None:
    """Print the counts, the percentiles, and whether the run is valid."""
    print(tables.verdict(run))


def pick(folder: str) -> Choice:
    """What to analyse: `folder`, or what is picked instead from a list that is shown where somebody can use it."""
    return show_picker(folder) if attended() else Choice(folder)


def runs(folder: str) -> list[Run]:
    """All complete runs below `folder` (from the project root). Raises `RunError` when there is none."""
    return find_runs(paths.resolve(folder))


def table(listed: list[Run]) -> str:
    """The table of points as text."""
    return tables.point_table(listed).to_string(index=False)


def notes(listed: list[Run]) -> str:
    """What must be read with the table."""
    return "\n".join(tables.notes(listed))


def budget(listed: list[Run]) -> str:
    """Per point: the mean of each stage and its share in frames around p50 and p90; each column sums to its total."""
    parts = []
    for point, group in tables.by_point(listed).items():
        frames = all_frames(group)
        wanted = stages.budget(frames)[["mean_ns", "at_p50_ns", "at_p90_ns"]] / 1e6
        parts.append(f"{point}\n{wanted.rename(columns=lambda c: c.replace('_ns', ' ms')).round(1).to_string()}")
    return "\n\n".join(parts)


def show(subject: Run | list[Run], name: str) -> None:
    """Show one figure of `latencylab.figures.FIGURES`, with its text alternative; that of a single run is kept in the
    run's folder."""
    if isinstance(subject, Run):
        drawn = figures.FIGURES[name]([subject])
        picture, _ = style.save(drawn.figure, subject.folder / "figures" / name)
        display(Image(picture.read_bytes(), alt=drawn.alt))
    else:
        drawn = figures.FIGURES[name](subject)
        display(Image(style.png(drawn.figure), alt=drawn.alt))


def slowest(listed: list[Run]) -> str:
    """Per point: which stage made the slowest 1 % of frames slow; the excesses sum to the total's."""
    parts = []
    for point, group in tables.by_point(listed).items():
        found = stages.slowest(all_frames(group))
        shown = (found[["slow_ns", "typical_ns", "excess_ns"]] / 1e6).rename(columns=lambda c: c.replace("_ns", " ms"))
        parts.append(f"{point}\n{shown.round(1).assign(frames=found['frames']).to_string()}")
    return "\n\n".join(parts)


def compared(a: str, b: str, margin: float) -> Comparison:
    """The runs below `a` and below `b` (from the project root) compared. Raises `RunError` when there is none."""
    return compare_runs.compare_folders(paths.resolve(a), paths.resolve(b), Rule(margin=margin))


def changes(comparison: Comparison) -> str:
    """The table of changes as text, and the verdict of each point."""
    table = compare_runs.change_table(comparison).to_string(index=False)
    return "\n".join([table, "", *compare_runs.verdict_lines(comparison)])


def show_shift(comparison: Comparison) -> None:
    """Draw the change of each quantile, with its text alternative."""
    drawn = compare_runs.quantile_shift(comparison)
    display(Image(style.png(drawn.figure), alt=drawn.alt))


def capacity(namespace: dict[str, Any]) -> Found:
    """The capacity that a search recorded in ``folder``, or the runs of a sweep there tell; when ``experiment`` names
    a sweep file, that of a new search, which keeps the lease of its machines alive.

    The parameters in a notebook's `namespace` are the options of ``latencylab capacity``. Raises `RunError`,
    `SweepError` or `ExperimentError`.
    """
    folder = paths.resolve(namespace["folder"])
    if not namespace["experiment"] and (folder / RECORD).exists():
        return capacity_report.read(folder)
    if not namespace["experiment"]:
        objective = Objective.of(namespace["percentile"], namespace["objective_ms"])
        return capacity_report.read_sweep(folder, objective)
    options = {name: namespace[name] for name in OPTIONS}
    design = Design.load(paths.resolve(namespace["experiment"]), options)
    with lease_kept(design.estimated_s(), print):
        return capacity_report.read(run_search(design, paths.runs()))


def capacity_answer(found: Found) -> str:
    """The answer of a capacity search, and what must be read with it."""
    return "\n".join(capacity_report.answer_lines(found))


def capacity_table(found: Found) -> str:
    """The probes of a capacity search as text, one row per rate."""
    return capacity_report.probe_table(found).to_string(index=False)


def show_capacity(found: Found) -> None:
    """Draw the probes of a capacity search, with their text alternative."""
    drawn = capacity_report.probe_figure(found)
    display(Image(style.png(drawn.figure), alt=drawn.alt))
