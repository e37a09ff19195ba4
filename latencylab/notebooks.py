"""Notebooks executed by papermill, with their parameters checked."""

import logging
import sys
import warnings
from pathlib import Path
from typing import Any

# jsonschema takes this package if it is there, for a check of internationalised addresses that no notebook needs; it
# compiles its grammar for 2 to 3 s while it is imported.
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]

import papermill  # noqa: E402

from latencylab import paths  # noqa: E402
from latencylab.kernels import ARGUMENTS, SweepKernel  # noqa: E402
from latencylab.runs import RunError  # noqa: E402


def execute_notebook(
    notebook: Path,
    output: Path,
    parameters: dict[str, Any],
    timeout_s: int = 600,
    kernel: SweepKernel | None = None,
) -> None:
    """papermill, with parameters that the notebook does not declare refused (papermill itself only warns).

    The notebook has a kernel to itself, or `kernel` with an empty namespace; one that a notebook failed in is ended.
    """
    known = set(parameters_of(notebook))
    unknown = sorted(set(parameters) - known)
    if unknown:
        raise RunError(f"{notebook.name} has no parameter {', '.join(unknown)}; it has {', '.join(sorted(known))}")
    logging.getLogger("papermill").setLevel("WARNING")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if kernel is not None:
            kernel.clear()
        try:
            papermill.execute_notebook(
                notebook,
                output,
                parameters=parameters,
                kernel_name="python3",
                progress_bar=False,
                execution_timeout=timeout_s,
                cwd=str(paths.ROOT),
                extra_arguments=list(ARGUMENTS),
                **({"km": kernel} if kernel is not None else {}),
            )
        except BaseException:
            if kernel is not None:
                kernel.end()
            raise


def parameters_of(notebook: Path) -> dict[str, Any]:
    """The declared parameters of a notebook: name -> default as Python source."""
    return {name: parameter["default"] for name, parameter in papermill.inspect_notebook(notebook).items()}
