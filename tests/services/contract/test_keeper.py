import contextlib
import io
import json
import signal
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.contract import keeper


def run(*arguments: object) -> str:
    command = [sys.executable, "-m", "services.contract.keeper", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "db-consumer-a-1.csv").write_text("run_id,image_id\n" + "r,é\n" * 50_000)
    (tmp_path / "db-consumer-a-1.json").write_text("{}")
    (tmp_path / "db-consumer-a-1.hdr.json").write_text("{}")
    (tmp_path / "db-consumer-a-1.json.part").write_text("not whole")
    return tmp_path


def test_only_finished_files_are_listed(folder):
    names = [entry["name"] for entry in keeper.files(folder)]
    assert names == ["db-consumer-a-1.csv", "db-consumer-a-1.hdr.json", "db-consumer-a-1.json"]


def test_what_is_sent_is_what_is_unpacked(folder):
    sent = run("send", folder, "db-consumer-a-1.csv")
    assert keeper.unpack(sent) == (folder / "db-consumer-a-1.csv").read_bytes()


@given(content=st.binary(max_size=5_000), share=st.floats(0, 0.99))
def test_a_cut_transfer_is_refused(content, share, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cut")
    (folder / "a.csv").write_bytes(content)
    with contextlib.redirect_stdout(io.StringIO()) as out:
        keeper.send(folder, "a.csv")
    sent = out.getvalue().rstrip()
    assert keeper.unpack(sent) == content
    with pytest.raises(ValueError):  # noqa: PT011 - whichever of base64 and zlib notices first
        keeper.unpack(sent[: int(len(sent) * share)])


def test_a_name_can_not_leave_the_folder(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("other") / "secret.csv"
    other.write_text("secret")
    with pytest.raises(FileNotFoundError):
        keeper.send(folder, f"../{other.parent.name}/secret.csv")


def test_the_pod_is_held_after_sigterm_until_it_is_released(folder):
    holder = subprocess.Popen([sys.executable, "-m", "services.contract.keeper", "hold", folder])
    try:
        with pytest.raises(TimeoutError):
            keeper.wait_for_end(folder, timeout_s=2.0)  # the worker still runs
        holder.send_signal(signal.SIGTERM)
        listed = json.loads(run("list", folder, "--timeout-s", 30))
        assert len(listed) == 3
        with pytest.raises(subprocess.TimeoutExpired):
            holder.wait(timeout=1.0)
        run("release", folder)
        assert holder.wait(timeout=30) == 0
    finally:
        holder.kill()
        holder.wait()
