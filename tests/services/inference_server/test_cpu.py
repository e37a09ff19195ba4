import os

import pytest

from services.inference_server.cpu import read_cpu

CPUINFO = "processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: avx2 {}\n\nprocessor\t: 1\nmodel name\t: Some CPU\n"


@pytest.mark.parametrize(("flag", "expected"), [("avx512_bf16", True), ("amx_bf16", True), ("avx512f", False)])
def test_name_and_flags(tmp_path, flag, expected):
    path = tmp_path / "cpuinfo"
    path.write_text(CPUINFO.format(flag))
    cpu = read_cpu(path, tmp_path / "none")
    assert cpu.model == "Some CPU"
    assert cpu.has_bfloat16 is expected


@pytest.mark.parametrize(("quota", "limit"), [("max 100000", None), ("100000 100000", 1), ("50000 100000", 1)])
def test_the_cgroups_quota_bounds_the_threads(tmp_path, quota, limit):
    path = tmp_path / "cpu.max"
    path.write_text(quota + "\n")
    assert read_cpu(quota=path).threads == (limit or len(os.sched_getaffinity(0)))


def test_without_the_files_it_is_unknown(tmp_path):
    cpu = read_cpu(tmp_path / "none", tmp_path / "none")
    assert (cpu.model, cpu.flags, cpu.has_bfloat16) == ("unknown", frozenset(), False)
