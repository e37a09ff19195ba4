import ast
import json

import nbformat
import papermill
import pytest

from latencylab import paths
from latencylab.experiment import Experiment
from latencylab.notebooks import execute_notebook, parameters_of
from latencylab.runs import RunError

NOTEBOOKS = sorted(paths.NOTEBOOKS.glob("*.ipynb"))
PLACE = {"sweep", "point", "repetition", "point_order", "root"}


def code_cells(path):
    return [cell for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]


@pytest.fixture
def small(tmp_path):
    """A notebook with one parameter."""
    notebook = nbformat.v4.new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}})
    cell = nbformat.v4.new_code_cell("rate_hz: float = 1.0  # frames per second", metadata={"tags": ["parameters"]})
    notebook.cells = [cell, nbformat.v4.new_code_cell("print(2 * rate_hz)")]
    notebook.metadata["language_info"] = {"name": "python"}
    nbformat.write(notebook, tmp_path / "small.ipynb")
    return tmp_path / "small.ipynb"


def test_a_parameter_that_the_notebook_lacks_is_refused_before_anything_runs(small, tmp_path):
    output = tmp_path / "output.ipynb"
    with pytest.raises(RunError, match=r"small\.ipynb has no parameter rate, speed; it has rate_hz"):
        execute_notebook(small, output, {"rate": 1, "speed": 2, "rate_hz": 3.0})
    assert not output.exists()


def test_declared_parameters_reach_papermill_with_a_kernel_and_a_time_limit(small, tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(papermill, "execute_notebook", lambda *args, **options: calls.append((args, options)))
    execute_notebook(small, tmp_path / "output.ipynb", {"rate_hz": 3.0}, timeout_s=7)
    ((args, options),) = calls
    assert args == (small, tmp_path / "output.ipynb")
    assert options["parameters"] == {"rate_hz": 3.0}
    assert (options["kernel_name"], options["execution_timeout"]) == ("python3", 7)
    assert options["cwd"] == str(paths.ROOT)


def test_the_parameters_are_those_declared(small):
    assert parameters_of(small) == {"rate_hz": "1.0"}


def test_run_point_declares_exactly_the_parameters_of_an_experiment_with_their_defaults_and_help():
    declared = papermill.inspect_notebook(paths.NOTEBOOKS / "02_run_point.ipynb")
    assert set(declared) - PLACE == set(Experiment.model_fields)
    assert set(declared) >= PLACE
    assert [name for name in declared if name not in PLACE] == list(Experiment.model_fields)
    for name, field in Experiment.model_fields.items():
        assert ast.literal_eval(declared[name]["default"]) == field.default, name
        assert declared[name]["help"] == field.description, name


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_parameters_are_literals_with_a_type_and_help(path):
    declared = papermill.inspect_notebook(path)
    assert declared, "no cell is tagged parameters"
    for name, parameter in declared.items():
        value = ast.literal_eval(parameter["default"])
        assert json.loads(json.dumps(value)) == value
        assert parameter["inferred_type_name"] == type(value).__name__, name
        assert parameter["help"], name


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_kernel_is_one_that_every_machine_has(path):
    assert nbformat.read(path, 4).metadata.kernelspec.name == "python3"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_only_one_cell_holds_the_parameters(path):
    assert sum("parameters" in cell.metadata.get("tags", []) for cell in code_cells(path)) == 1


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_cell_whose_output_is_compared_has_one(path):
    for cell in code_cells(path):
        if "NBVAL_CHECK_OUTPUT" in cell.source:
            assert cell.execution_count is not None, f"never executed, so nothing is compared: {cell.source}"
            assert cell.outputs, f"executed without output, so nothing is compared: {cell.source}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_committed_cell_ended_in_an_error(path):
    assert not [cell.source for cell in code_cells(path) for output in cell.outputs if output.output_type == "error"]
