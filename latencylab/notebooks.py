"""Notebooks executed by papermill, with their parameters checked."""

import logging
import warnings
from pathlib import Path
from typing import Any

import papermill

from latencylab import paths
from latencylab.runs import RunError


def execute_notebook(notebook: Path, output: Path, parameters: dict[str, Any], timeout_s: int = 600) -> None:
    """papermill, with parameters that the notebook does not declare refused (papermill itself only warns)."""
    known = set(parameters_of(notebook))
    unknown = sorted(set(parameters) - known)
    if unknown:
        raise RunError(f"{notebook.name} has no parameter {', '.join(unknown)}; it has {', '.join(sorted(known))}")
    logging.getLogger("papermill").setLevel("WARNING")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        papermill.execute_notebook(
            notebook,
            output,
            parameters=parameters,
            kernel_name="python3",
            progress_bar=False,
            execution_timeout=timeout_s,
            cwd=str(paths.ROOT),
        )


def parameters_of(notebook: Path) -> dict[str, Any]:
    """The declared parameters of a notebook: name -> default as Python source."""
    return {name: parameter["default"] for name, parameter in papermill.inspect_notebook(notebook).items()}
