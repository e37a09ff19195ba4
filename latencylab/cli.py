"""The command ``latencylab``: converts options and calls one function each."""

import sys
from pathlib import Path
from typing import Any

import click
import yaml

from latencylab import __version__, paths
from latencylab.backends.backend import BackendError, make_backend
from latencylab.chameleon.during import lease_kept
from latencylab.experiment import Experiment, ExperimentError
from latencylab.runs import RunError, find_runs
from latencylab.sweep import Sweep, SweepError


class _FriendlyError(click.ClickException):
    """Ends with click's status for wrong usage: 1 is a verdict, such as that of ``latencylab compare``."""

    exit_code = 2


class _Friendly(click.Group):
    """Errors that a user can mend are one message, not a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (BackendError, ExperimentError, RunError, SweepError) as error:
            raise _FriendlyError(str(error)) from None


@click.group(cls=_Friendly, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """A reproducible latency laboratory for an IoT image-analytics pipeline."""


@main.command()
@click.option("--only", type=click.Choice(["kafka", "mongodb", "all"]), default="all", help="Look at one part only.")
def doctor(only: str) -> None:
    """Say what is missing on this machine and how to install it."""
    from latencylab.prerequisites import findings

    found = findings(only)
    quiet = only != "all"
    for item in found:
        if not (quiet and item.met):
            mark = "ok  " if item.met else "MISSING" if item.required else "absent "
            click.echo(f"{mark:8}{item.name:9}{item.found}" + ("" if item.met else f"\n        -> {item.remedy}"))
    if any(item.required and not item.met for item in found):
        sys.exit(1)


@main.command()
@click.option("--backend", default="local", show_default=True, help="local or kubernetes.")
@click.option("-p", "--parameter", "parameters", multiple=True, help="NAME=VALUE of the experiment; repeatable.")
def up(backend: str, parameters: tuple[str, ...]) -> None:
    """Start broker, database and inference server and leave them running for many runs."""
    experiment = Experiment.parse(_values(parameters) | {"backend": backend})
    make_backend(backend, keep=True).up(experiment, click.echo)
    click.echo("up; end it with  latencylab down")


@main.command()
@click.option("--backend", default="local", show_default=True, help="local or kubernetes.")
@click.option("--all", "everything", is_flag=True, help="Also what a killed process left behind, found by its label.")
def down(backend: str, everything: bool) -> None:
    """Stop what `latencylab up` or a killed sweep left running."""
    for what in make_backend(backend).end_leftovers(everything) or ["nothing was running"]:
        click.echo(what)


@main.command()
@click.option("-p", "--parameter", "parameters", multiple=True, help="NAME=VALUE of the experiment; repeatable.")
@click.option("--name", default="single", show_default=True, help="Sweep folder that the run goes to.")
def run(parameters: tuple[str, ...], name: str) -> None:
    """Measure one point once."""
    design = {"name": name, "base": _values(parameters)}
    _run_sweep(Sweep.parse(design, "-p"), new=True)


@main.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--new", is_flag=True, help="Begin a sweep of its own when one of this name is there already.")
def sweep(file: Path, new: bool) -> None:
    """Carry out a sweep file; again: what is missing of it."""
    _run_sweep(Sweep.load(file), new=new)


def _run_sweep(design: Sweep, *, new: bool) -> None:
    from latencylab.execution import run_sweep

    runs, points = len(design.requests()), len(design.experiments())
    click.echo(
        f"{runs} runs of {points} points, about {design.estimated_s() / 60:.1f} min and the start of the pipeline"
    )
    with lease_kept(design.estimated_s(), click.echo):
        outcome = run_sweep(design, paths.runs(), new=new, echo=click.echo)
    from latencylab.report import print_sweep  # imports for seconds: not before the sweep

    print_sweep(outcome, click.echo)
    if outcome.failed:
        sys.exit(1)


@main.command()
@click.argument("experiment", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--point", default="", help="Which point of the sweep file EXPERIMENT, when it has several.")
@click.option("--objective-ms", type=float, default=500.0, show_default=True, help="Latency that may be reached.")
@click.option("--percentile", type=float, default=99.0, show_default=True, help="Share of the frames within it, in %.")
@click.option("--start-hz", type=float, default=1.0, show_default=True, help="First rate, frames/s of all cameras.")
@click.option("--min-hz", type=float, default=0.25, show_default=True, help="Lowest rate to try.")
@click.option("--max-hz", type=float, default=1000.0, show_default=True, help="Highest rate to try.")
@click.option("--resolution", type=float, default=0.05, show_default=True, help="Relative width at which to stop.")
@click.option("--repetitions", type=int, default=3, show_default=True, help="Runs of each rate that bounds the answer.")
@click.option("--name", default="", help="Folder of the search below data/runs; default: by file and point.")
@click.option("--new", is_flag=True, help="Begin a search of its own when one of this name is there already.")
def capacity(experiment: Path, new: bool, **options: Any) -> None:
    """Find the highest rate at which a point meets an objective; again: go on where the search stopped.

    Exit status: 0 there is such a rate, 1 there is none, 2 the search could not be carried out.
    """
    from latencylab import capacity_report
    from latencylab.capacity_search import Design, run_search

    design = Design.load(experiment, options)
    click.echo(f"{design.objective.told()}: {design.cost()}")
    with lease_kept(design.estimated_s(), click.echo):
        folder = run_search(design, paths.runs(), new=new, echo=click.echo)
    found = capacity_report.read(folder)
    click.echo("\n".join(["", capacity_report.probe_table(found).to_string(index=False), ""]))
    click.echo("\n".join([*capacity_report.answer_lines(found), paths.shown(folder)]))
    if found.capacity.rate_hz is None:
        sys.exit(1)


@main.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--output", type=click.Path(file_okay=False, path_type=Path), help="Default: FOLDER/figures.")
def figures(folder: Path, output: Path | None) -> None:
    """Draw the figures of the runs below FOLDER."""
    from latencylab.figures import render

    for path in render(find_runs(folder.resolve()), (output or folder / "figures").resolve()):
        click.echo(paths.shown(path))


@main.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
def report(folder: Path) -> None:
    """Write the page report.html and ro-crate-metadata.json of the sweep in FOLDER."""
    from latencylab.crate import write_crate
    from latencylab.report_html import write_report

    click.echo(paths.shown(write_report(folder.resolve())))
    click.echo(paths.shown(write_crate(folder.resolve())))


@main.command()
@click.argument("a", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("b", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--margin", type=click.FloatRange(0, min_open=True), default=0.05, show_default=True,
              help="Relative change too small to matter.")  # fmt: skip
def compare(a: Path, b: Path, margin: float) -> None:
    """Say whether the runs below B are slower than those below A.

    Exit status: 0 no point is worse, 1 a point is worse, 2 nothing could be compared (wrong usage, no or damaged
    runs), 3 none is worse but some can't be told.
    """
    from latencylab import compare_runs
    from latencylab.compare import Rule

    comparison = compare_runs.compare_folders(a.resolve(), b.resolve(), Rule(margin=margin))
    click.echo(compare_runs.change_table(comparison).to_string(index=False))
    for line in compare_runs.verdict_lines(comparison):
        click.echo(line)
    sys.exit(comparison.exit_status)


@main.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
def reproduce(folder: Path) -> None:
    """Record the sweep in FOLDER again and say whether it was reproduced.

    Exit status: 0 it was, 1 it was not, 2 it could not be recorded again.
    """
    from latencylab import reproduce as again

    thresholds = again.Thresholds()
    recorded = folder.resolve()
    new = again.rerun(recorded, paths.runs(), click.echo)
    verdict = again.judge(recorded, new, thresholds)
    for line in [*verdict.against, *(f"not compared: {reason}" for reason in verdict.unknown)]:
        click.echo(line)
    word = "REPRODUCED" if verdict.reproduced else "NOT reproduced"
    click.echo(f"{word}: {verdict.compared} percentiles compared; thresholds: {thresholds.told()}; {paths.shown(new)}")
    if not verdict.reproduced:
        sys.exit(1)


def _values(parameters: tuple[str, ...]) -> dict[str, Any]:
    values = {}
    for text in parameters:
        name, separator, value = text.partition("=")
        if not separator:
            raise ExperimentError(f"-p {text}: write it as NAME=VALUE")
        parsed = yaml.safe_load(value)
        is_text = Experiment.model_fields.get(name) and isinstance(Experiment.model_fields[name].default, str)
        values[name] = value if is_text else parsed
    return values
