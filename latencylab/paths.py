"""Every path of the project, from one root, wherever the notebook, the shell or the test was started."""

import os
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
SERVICES: Final = ROOT / "services"
NOTEBOOKS: Final = ROOT / "notebooks"
EXPERIMENTS: Final = ROOT / "experiments"
SAMPLE: Final = ROOT / "data" / "sample"
FIGURES: Final = ROOT / "figures"
BUILD: Final = ROOT / ".build"


def data() -> Path:
    """The folder of what is measured; ``LATENCYLAB_DATA`` moves it."""
    return Path(os.environ.get("LATENCYLAB_DATA", ROOT / "data")).resolve()


def runs() -> Path:
    """The folder of all sweeps' run folders."""
    return data() / "runs"


def stack() -> Path:
    """The folder of the local stack that is running, if one is."""
    return data() / "stack"


def resolve(path: str | Path) -> Path:
    """A path as the user gave it: absolute, or from the project root (papermill and nbval start elsewhere)."""
    return (ROOT / path).resolve()


def shown(path: Path) -> str:
    """A path as it is printed: from the project root where it lies below it."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)
