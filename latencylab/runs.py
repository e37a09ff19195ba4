"""Run folders: SWEEP/POINT/REPETITION, there only when whole."""

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from latencylab import paths
from latencylab.experiment import Experiment

if TYPE_CHECKING:
    import pandas as pd  # takes seconds to import: only those who look into a run need it

SCHEMA_VERSION: Final = 1


class RunError(ValueError):
    """A run folder that is missing, damaged, or already there; the text names it."""


@dataclass(frozen=True)
class RunName:
    """Where a run belongs. Each part is a folder name: letters, digits, ``-``, ``_``, ``=``, ``,`` and ``.``."""

    sweep: str
    point: str
    repetition: int

    def __post_init__(self) -> None:
        for part in (self.sweep, self.point):
            if not part or part.startswith(".") or not all(c.isalnum() or c in "-_=,." for c in part):
                raise RunError(f"{part!r} can't be a folder name: use letters, digits and - _ = , .")
        if self.repetition < 1:
            raise RunError(f"repetition: counts from 1, got {self.repetition}")

    @property
    def run_id(self) -> str:
        """The id that every frame of the run carries."""
        return f"{self.sweep}/{self.point}/{self.repetition}"

    def folder(self, root: Path) -> Path:
        """The run's folder below `root`."""
        return root / self.sweep / self.point / f"r{self.repetition}"


def next_repetition(root: Path, sweep: str, point: str) -> int:
    """The number after the last repetition of that point below `root`. Raises `RunError` for an impossible name."""
    folder = RunName(sweep, point, 1).folder(root).parent
    return max((int(path.name[1:]) for path in folder.glob("r*") if path.name[1:].isdecimal()), default=0) + 1


@contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """A folder beside `folder` to write a run into; it becomes `folder` when the block ends without an exception.

    What an earlier process left unfinished beside it is removed first. Raises `RunError` when `folder` is there.
    """
    if folder.exists():
        raise RunError(f"{paths.shown(folder)} is there already: remove it, or choose another sweep or repetition")
    folder.parent.mkdir(parents=True, exist_ok=True)
    for left in folder.parent.glob(f".{folder.name}.part-*"):
        if not _alive(int(left.name.rsplit("-", 1)[1])):
            shutil.rmtree(left)
    staging = folder.parent / f".{folder.name}.part-{os.getpid()}"
    staging.mkdir()
    try:
        yield staging
        staging.rename(folder)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@dataclass(frozen=True)
class Run:
    """A complete run folder."""

    folder: Path

    @classmethod
    def load(cls, folder: Path) -> "Run":
        """Open a run folder. Raises `RunError` when it is none, or of a later layout than this code knows."""
        run = cls(folder)
        for name in ("run.json", "frames.parquet"):
            if not (folder / name).exists():
                raise RunError(f"{paths.shown(folder)} is no run folder: {name} is missing")
        if (version := run.info.get("schema")) != SCHEMA_VERSION:
            raise RunError(f"{paths.shown(folder)}/run.json: schema {version} is not {SCHEMA_VERSION}")
        return run

    @cached_property
    def info(self) -> dict[str, Any]:
        """run.json."""
        try:
            return dict(json.loads((self.folder / "run.json").read_text()))
        except ValueError as error:
            raise RunError(f"{paths.shown(self.folder)}/run.json is damaged: {error}") from None

    @cached_property
    def experiment(self) -> Experiment:
        """The parameters that were measured."""
        return Experiment.parse(self.info["experiment"])

    @cached_property
    def frames(self) -> "pd.DataFrame":
        """One row per scheduled frame, nullable columns; see the README's table of the run folder."""
        import pandas as pd

        try:
            return pd.read_parquet(self.folder / "frames.parquet", dtype_backend="numpy_nullable")
        except (OSError, ValueError) as error:
            raise RunError(f"{paths.shown(self.folder)}/frames.parquet is damaged: {error}") from None

    @cached_property
    def resources(self) -> "pd.DataFrame":
        """CPU and memory of each component over time."""
        import pandas as pd

        return pd.read_parquet(self.folder / "resources.parquet")

    @property
    def valid(self) -> bool:
        """Whether nothing speaks against the run."""
        return not self.info["invalid_reasons"]

    @property
    def point(self) -> str:
        """Name of the point."""
        return str(self.info["point"])


def run_folders(root: Path) -> list[Path]:
    """The folders of all complete runs below `root`, by path."""
    found = (path.parent for path in root.rglob("run.json"))
    # Folders whose name begins with a dot hold runs that are not complete.
    return sorted(path for path in found if not any(p.startswith(".") for p in path.relative_to(root).parts))


def find_runs(root: Path) -> list[Run]:
    """All complete runs below `root` (a run, a point, a sweep or a folder of sweeps), by point and repetition.

    Raises `RunError` when there is none.
    """
    folders = run_folders(root)
    if not folders:
        raise RunError(f"{paths.shown(root)}: no complete run in it; record one with  latencylab sweep  or  make run")
    runs = [Run.load(folder) for folder in folders]
    return sorted(runs, key=lambda run: (run.info["sweep"], run.info["point_order"], run.info["repetition"]))


def all_frames(runs: Iterable[Run]) -> "pd.DataFrame":
    """The frames of several runs, one below the other."""
    import pandas as pd

    return pd.concat([run.frames for run in runs], ignore_index=True)
