"""The kernel of a sweep, with papermill and a real kernel."""

import nbformat
import papermill
import pytest
from papermill.exceptions import PapermillExecutionError

from latencylab.kernels import SweepKernel


@pytest.fixture(scope="module")
def kernel():
    started = SweepKernel.start()
    yield started
    started.end()


def execute(kernel, folder, *sources):
    """Clear the kernel and execute a notebook of these cells in it; what its last cell printed."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    path = folder / "notebook.ipynb"
    nbformat.write(notebook, path)
    kernel.clear()
    done = papermill.execute_notebook(path, path, kernel_name="python3", progress_bar=False, km=kernel)
    return "".join(output.text for output in done.cells[-1].outputs)


def test_notebooks_share_a_process_and_no_variable(kernel, tmp_path):
    first = execute(kernel, tmp_path, "x = 1", "import os; print(os.getpid())")
    second = execute(kernel, tmp_path, "print('x' in globals())", "import os; print(os.getpid())")
    assert first == second
    assert execute(kernel, tmp_path, "print('x' in globals())") == "False\n"


def test_what_the_notebooks_import_is_imported(kernel, tmp_path):
    assert execute(kernel, tmp_path, "import sys; print('latencylab.session' in sys.modules)") == "True\n"


def test_a_notebook_after_an_ended_kernel_gets_another_one(kernel, tmp_path):
    first = execute(kernel, tmp_path, "import os; print(os.getpid())")
    with pytest.raises(PapermillExecutionError):
        execute(kernel, tmp_path, "raise ValueError('no')")
    kernel.end()
    assert not kernel.has_kernel
    assert execute(kernel, tmp_path, "import os; print(os.getpid())") != first


def test_a_kernel_that_does_not_answer_is_ended(kernel, tmp_path, monkeypatch):
    execute(kernel, tmp_path, "print()")
    monkeypatch.setattr("latencylab.kernels._RESET_TIMEOUT_S", 0.0)
    kernel.clear()
    assert not kernel.has_kernel
