"""The RO-Crate of a recorded sweep: every file, every run, and no reference into nothing."""

import json
import shutil
from pathlib import Path
from urllib.parse import unquote

import pytest
from rocrate.rocrate import ROCrate

from latencylab import crate
from latencylab.runs import RunError, find_runs

RECORDED = Path(__file__).parents[1] / "data" / "sweep"
POINT = "producers=2,rate_hz=0.5"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The sweep, one point renamed to a name that a URL must quote, beside what an unfinished run left."""
    copy = tmp_path_factory.mktemp("crate") / "sweep"
    shutil.copytree(RECORDED, copy)
    (copy / "2-cameras").rename(copy / POINT)
    (copy / ".failed").mkdir()
    (copy / ".failed" / "notebook.ipynb").write_text("{}")
    (copy / "report.html").write_text("<p>é</p>", encoding="utf-8")
    crate.write_crate(copy)
    return copy


@pytest.fixture(scope="module")
def graph(folder):
    """The entities by id."""
    listed = json.loads((folder / crate.NAME).read_text(encoding="utf-8"))["@graph"]
    found = {entity["@id"]: entity for entity in listed}
    assert len(found) == len(listed)
    return found


def of_type(graph, kind):
    return [entity for entity in graph.values() if entity["@type"] == kind]


def ids(reference):
    references = reference if isinstance(reference, list) else [reference]
    return [one["@id"] for one in references]


def visible_files(folder):
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {path.as_posix() for path in found if not path.as_posix().startswith(".")} - {crate.NAME}


def test_every_file_is_described_and_part_of_the_whole(folder, graph):
    described = {unquote(entity["@id"]): entity for entity in of_type(graph, "File")}
    assert described.keys() == visible_files(folder)
    assert f"{POINT}/r1/frames.parquet" in described
    assert {unquote(name) for name in ids(graph["./"]["hasPart"])} == visible_files(folder)
    for place, entity in described.items():
        assert entity["contentSize"] == str((folder / place).stat().st_size)
    kinds = {place.rsplit(".", 1)[-1]: entity["encodingFormat"] for place, entity in described.items()}
    expected = {"parquet": "application/vnd.apache.parquet", "json": "application/json", "csv": "text/csv"}
    assert kinds == {**expected, "html": "text/html"}


def test_every_run_is_an_action_with_its_files_as_the_result(folder, graph):
    actions = {action["name"]: action for action in of_type(graph, "CreateAction")}
    assert sorted(ids(graph["./"]["mentions"])) == sorted(action["@id"] for action in actions.values())
    runs = find_runs(folder)
    assert actions.keys() == {run.info["run_id"] for run in runs}
    for run in runs:
        action = actions[run.info["run_id"]]
        own = {path.relative_to(folder).as_posix() for path in run.folder.rglob("*") if path.is_file()}
        assert {unquote(name) for name in ids(action["result"])} == own
        assert ids(action["object"]) == ["sweep.json"]
        assert graph[action["instrument"]["@id"]]["name"] == "latencylab"
        assert action["endTime"] == run.info["recorded_at"]
        assert action["description"].startswith("valid" if run.valid else f"invalid: {run.info['invalid_reasons'][0]}")


def test_the_crate_is_dated_and_named_after_the_sweep(folder, graph):
    root = graph["./"]
    assert root["name"] == "Latency sweep default"
    assert root["description"].startswith("4 runs of 4 points")
    assert root["datePublished"] == max(run.info["recorded_at"] for run in find_runs(folder))
    (software,) = of_type(graph, "SoftwareApplication")
    for run in find_runs(folder):
        assert run.info["git"]["commit"] in software["version"]


def test_every_reference_within_the_crate_leads_somewhere(graph):
    def references(value):
        if isinstance(value, list):
            return [found for part in value for found in references(part)]
        if isinstance(value, dict):
            return [value["@id"]]
        return []

    found = [one for entity in graph.values() for value in entity.values() for one in references(value)]
    assert found
    assert {one for one in found if not one.startswith(("http:", "https:"))} <= graph.keys()


def test_the_package_reads_it_back(folder):
    read = ROCrate(folder)
    assert {unquote(entity.id) for entity in read.data_entities} == visible_files(folder)
    assert len(read.root_dataset["mentions"]) == 4


def test_a_crate_written_again_does_not_describe_itself(folder, graph):
    assert crate.write_crate(folder) == folder / crate.NAME
    again = json.loads((folder / crate.NAME).read_text(encoding="utf-8"))["@graph"]
    assert {entity["@id"]: entity for entity in again} == graph


def test_a_folder_that_is_no_sweep_is_refused(folder, tmp_path):
    with pytest.raises(RunError, match=r"is no sweep: sweep\.json is missing"):
        crate.write_crate(folder / "1-camera")
    shutil.copy(folder / "sweep.json", tmp_path)
    with pytest.raises(RunError, match="no complete run"):
        crate.write_crate(tmp_path)
    assert not (tmp_path / crate.NAME).exists()
