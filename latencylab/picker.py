"""The list of recorded runs from which a notebook's reader picks what to analyse."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from IPython.display import display

from latencylab import paths
from latencylab.runs import run_folders


@dataclass
class Choice:
    """What is analysed: a folder as notebooks take it, from the project root."""

    folder: str


_made: dict[str, Choice] = {}
"""By the folder that the notebook's parameter named: what was picked instead of it outlives "Run All"."""


def recorded() -> dict[str, str]:
    """Label -> folder of every sweep with complete runs (the sample, then by name) and of its points and runs."""
    own = sorted(path for path in paths.runs().glob("*") if path.is_dir() and not path.name.startswith("."))
    found = {}
    for sweep in [paths.SAMPLE, *own]:
        lineage = (folder for run in run_folders(sweep) for folder in (run, *run.parents))
        for folder, runs in sorted(Counter(f for f in lineage if f.is_relative_to(sweep)).items()):
            shown = paths.shown(folder)
            found[f"{shown} ({runs} run{'s' if runs > 1 else ''})"] = shown
    return found


def show_picker(folder: str) -> Choice:
    """Show the list and return what is picked in it, now and whenever the reader picks something else."""
    import ipywidgets  # only where there is a reader

    choice = _made.setdefault(folder, Choice(folder))
    listed = recorded()
    options = list(listed.items()) if choice.folder in listed.values() else [(choice.folder,) * 2, *listed.items()]
    picked = ipywidgets.Dropdown(
        options=options,
        value=choice.folder,
        description="Runs of",
        layout=ipywidgets.Layout(width="36rem", max_width="100%"),
    )
    told = ipywidgets.HTML()

    def pick(change: dict[str, Any]) -> None:
        choice.folder = change["new"]
        told.value = (
            '<span role="status">Picked; now run the cells below (Run ▸ Run Selected Cell and All Below).</span>'
        )

    picked.observe(pick, "value")
    display(ipywidgets.VBox([picked, told]))
    return choice
