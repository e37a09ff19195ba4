"""In a real kernel: widgets are for requests of somebody who can be asked, and for nobody else."""

import pytest
from jupyter_client.manager import start_new_kernel

from latencylab import paths


@pytest.fixture(scope="module")
def client():
    manager, client = start_new_kernel(kernel_name="python3", cwd=str(paths.ROOT))
    yield client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def execute(client, code, attended):
    """The messages that the execution of `code` sent; none may be an error."""
    messages = []
    client.execute_interactive(code, allow_stdin=attended, output_hook=messages.append, timeout=120)
    assert [m["content"] for m in messages if m["msg_type"] == "error"] == []
    return [m["msg_type"] for m in messages if m["msg_type"] in ("stream", "display_data", "comm_open")], [
        m["content"].get("text") for m in messages if m["msg_type"] == "stream"
    ]


@pytest.mark.parametrize("attended", [True, False])
def test_the_request_says_whether_somebody_is_there(client, attended):
    _, printed = execute(client, "from latencylab.front_end import attended; print(attended())", attended)
    assert printed == [f"{attended}\n"]


def test_for_a_program_the_notebooks_show_no_widget(client):
    code = """
from latencylab import session
from latencylab.experiment import Experiment
from latencylab.request import Request
from latencylab.runs import RunName
picked = session.pick("data/sample")
panel = session.panel(Request(RunName("s", "p", 1), Experiment()))
assert panel is None
assert picked.folder == "data/sample"
"""
    assert execute(client, code, attended=False) == ([], [])
    shown, _ = execute(client, code.replace("panel is None", "panel is not None"), attended=True)
    assert shown.count("display_data") == 2


def test_this_process_is_no_kernel():
    from latencylab.front_end import attended

    assert not attended()
