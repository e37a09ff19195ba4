import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latencylab.runs import RunError
from latencylab.sweep import OVERHEAD_PER_RUN_S, Sweep, SweepError, check_resumable, record_design


def sweep(**changes):
    return Sweep.parse({"name": "load", **changes})


def test_factors_make_a_grid_whose_points_are_named_by_their_levels():
    design = sweep(base={"duration_s": 5}, factors={"producers": [1, 4], "rate_hz": [0.5, 1]})
    points = design.experiments()
    assert list(points) == [
        "producers=1,rate_hz=0.5",
        "producers=1,rate_hz=1",
        "producers=4,rate_hz=0.5",
        "producers=4,rate_hz=1",
    ]
    assert [(e.producers, e.rate_hz, e.duration_s) for e in points.values()] == [
        (1, 0.5, 5),
        (1, 1, 5),
        (4, 0.5, 5),
        (4, 1, 5),
    ]


def test_points_may_be_listed_with_names_and_overrule_the_base():
    design = sweep(base={"duration_s": 5}, points=[{"name": "long", "duration_s": 50}, {"producers": 2}])
    assert {name: (e.duration_s, e.producers) for name, e in design.experiments().items()} == {
        "long": (50, 1),
        "producers=2": (5, 2),
    }


def test_a_sweep_of_nothing_is_one_point():
    assert list(sweep().experiments()) == ["base"]


def test_a_level_that_is_no_folder_name_gets_one(tmp_path):
    (tmp_path / "a file").write_text("0\n")
    design = sweep(base={"arrivals": "trace"}, factors={"trace_file": [str(tmp_path / "a file")]})
    (name,) = design.experiments()
    assert "/" not in name
    assert " " not in name


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"factor": {}}, "file.yaml: factor: "),
        ({"repetitions": 0}, "file.yaml: repetitions: "),
        ({"factors": {"producers": []}}, "file.yaml: factors: producers has no level"),
        ({"factors": {"producers": [1, 1]}}, "file.yaml: factors: producers has the same level twice"),
        ({"factors": {"producers": [1, 0]}}, "file.yaml: point producers=0: producers: "),
        ({"factors": {"cameras": [1]}}, "file.yaml: point cameras=1: cameras: no such parameter"),
        ({"base": {"rate": 3}}, "file.yaml: point base: rate: no such parameter"),
        ({"factors": {"producers": [1]}, "points": [{}]}, "file.yaml: factors and points exclude each other"),
        ({"points": [{"name": "a"}, {"name": "a", "producers": 2}]}, "file.yaml: points: two of them have the same"),
        ({"name": "../elsewhere"}, "file.yaml: '../elsewhere' can't be a folder name"),
        ({"points": [{"name": "a b"}]}, "file.yaml: 'a b' can't be a folder name"),
    ],
)
def test_a_bad_design_names_the_file_and_the_field(changes, told):
    with pytest.raises(SweepError) as caught:
        Sweep.parse({"name": "load", **changes}, "file.yaml")
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [("- 1\n", "a sweep is a mapping"), ("a: [\n", "not YAML"), ("", "a sweep is a mapping")],
)
def test_a_bad_file_is_named(tmp_path, text, told):
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(SweepError, match=told) as caught:
        Sweep.load(tmp_path / "bad.yaml")
    assert str(tmp_path / "bad.yaml") in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(SweepError, match=r"none\.yaml: No such file"):
        Sweep.load(tmp_path / "none.yaml")


def test_a_file_names_its_sweep_unless_it_says_otherwise(tmp_path):
    (tmp_path / "night.yaml").write_text("repetitions: 2\n")
    assert Sweep.load(tmp_path / "night.yaml").name == "night"
    (tmp_path / "night.yaml").write_text("name: day\n")
    assert Sweep.load(tmp_path / "night.yaml").name == "day"


levels = st.lists(st.integers(1, 30), min_size=1, max_size=6, unique=True)


@given(levels, st.integers(1, 5), st.integers(0, 1000))
def test_each_repetition_is_a_shuffled_block_of_all_points(producers, repetitions, order_seed):
    design = sweep(factors={"producers": producers}, repetitions=repetitions, order_seed=order_seed)
    requests = design.requests()
    assert requests == design.requests()
    size = len(producers)
    blocks = [requests[start : start + size] for start in range(0, len(requests), size)]
    assert len(blocks) == repetitions
    for number, block in enumerate(blocks, start=1):
        assert {request.name.repetition for request in block} == {number}
        assert {request.name.point for request in block} == set(design.experiments())
    order = list(design.experiments())
    assert all(order[request.point_order] == request.name.point for request in requests)


def test_blocks_differ_in_their_order_and_so_do_seeds():
    design = sweep(factors={"producers": list(range(1, 9))}, repetitions=4)
    points = [request.name.point for request in design.requests()]
    blocks = [points[start : start + 8] for start in range(0, 32, 8)]
    assert all(first != second for first, second in pairwise(blocks))
    other = design.model_copy(update={"order_seed": 2})
    assert [request.name.point for request in other.requests()] != points


def test_repetitions_differ_in_their_seed_and_a_repeated_run_does_not():
    seeds = [request.seed for request in sweep(base={"seed": 7}, repetitions=3).requests()]
    assert seeds == [7001, 7002, 7003]


def test_the_estimate_covers_every_run():
    design = sweep(base={"duration_s": 30}, factors={"producers": [1, 2]}, repetitions=3)
    assert design.estimated_s() == 6 * (30 + OVERHEAD_PER_RUN_S)


def test_a_recorded_design_comes_back_and_may_be_resumed(tmp_path):
    design = sweep(factors={"producers": [1, 2]}, repetitions=2)
    check_resumable(design, tmp_path / "load")
    record_design(design, tmp_path / "load")
    check_resumable(design, tmp_path / "load")
    assert Sweep.parse(json.loads((tmp_path / "load" / "sweep.json").read_text())) == design
    assert [path.name for path in (tmp_path / "load").iterdir()] == ["sweep.json"]


@pytest.mark.parametrize("changes", [{"base": {"duration_s": 9}}, {"factors": {"producers": [1]}}, {"order_seed": 2}])
def test_a_sweep_of_other_parameters_is_not_resumed(tmp_path, changes):
    record_design(sweep(), tmp_path)
    with pytest.raises(RunError, match=f"other {next(iter(changes))}.*--new"):
        check_resumable(sweep(**changes), tmp_path)
