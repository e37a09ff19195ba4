"""Where a number comes from: the code, the interpreter and the libraries."""

import platform
import subprocess
from importlib import metadata
from typing import Any, Final

from latencylab import __version__, paths

_LIBRARIES: Final = (
    *("duckdb", "flask", "kafka-python", "keras", "kubernetes", "numpy", "pandas", "papermill", "pillow", "pyarrow"),
    *("pymongo", "requests", "scipy", "simplejpeg", "tensorflow", "tensorflow-cpu", "waitress"),
)


def git_state() -> dict[str, Any]:
    """Commit and whether the tree differs from it; both None outside a repository."""

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", *arguments], cwd=paths.ROOT, capture_output=True, text=True, timeout=10)
        except (FileNotFoundError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    status = git("status", "--porcelain", "--untracked-files=no")
    return {"commit": git("rev-parse", "HEAD"), "dirty": None if status is None else bool(status)}


def versions() -> dict[str, str]:
    """Versions of the interpreter, of this package and of the libraries that take part in a measurement."""
    found = {"python": platform.python_version(), "latencylab": __version__}
    for name in _LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
