"""Real processes: small Python programs that say in their log what happens to them."""

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psutil
import pytest

from latencylab.backends import processes
from latencylab.backends.backend import BackendError
from latencylab.backends.processes import Service, accepts, answers, end_process, free_port, stop_all

LONG_S = 120.0  # never reached unless something is broken
SLEEP = "import time; print('up', flush=True); time.sleep(600)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEP}"
STUBBORN_FAMILY = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the child inherits that
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, "up", flush=True)
time.sleep(600)
"""
STUBBORN_CHILD = STUBBORN_FAMILY.replace("print(", "signal.signal(signal.SIGTERM, signal.SIG_DFL)\nprint(")


class RecordingGuard:
    def __init__(self):
        self.watched = []
        self.forgotten = []

    def watch(self, pid):
        self.watched.append(pid)

    def forget(self, pid):
        self.forgotten.append(pid)


@pytest.fixture
def start(tmp_path):
    """Start a program as a service; whatever still runs at the end of the test is killed."""
    services = []

    def make(program, component="worker", environment=None, **more):
        log_path = tmp_path / "logs" / f"{component}.log"
        services.append(Service(component, [sys.executable, "-c", program], environment or {}, log_path, **more))
        return services[-1]

    yield make
    for service in services:
        if service.exit_status() is None:
            os.killpg(service.pid, signal.SIGKILL)
            service.process.wait()


def until_up(service):
    service.wait_until(lambda: "up" in service.log_path.read_text(), LONG_S)
    return service


def has_ended(process):
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.status() == psutil.STATUS_ZOMBIE
    return True


def test_output_and_errors_go_to_the_log_after_what_it_held(start):
    program = "import sys; print('out', flush=True); print('error', file=sys.stderr)"
    for _ in range(2):
        service = start(program)
        assert service.process.wait(LONG_S) == 0
    assert service.log_path.read_text().split() == ["out", "error"] * 2


def test_output_can_have_a_file_of_its_own(start, tmp_path):
    service = start("import sys; print('out'); print('error', file=sys.stderr)", output_path=tmp_path / "report")
    service.process.wait(LONG_S)
    assert (tmp_path / "report").read_text() == "out\n"
    assert service.log_path.read_text() == "error\n"


def test_the_environment_is_added_to_and_the_folder_chosen(start, tmp_path, monkeypatch):
    monkeypatch.setenv("KEPT", "kept")
    program = "import os; print(os.environ['KEPT'], os.environ['ADDED'], os.getcwd())"
    service = start(program, environment={"ADDED": "added"}, working_directory=tmp_path)
    service.process.wait(LONG_S)
    assert service.log_path.read_text().split() == ["kept", "added", os.fspath(tmp_path.resolve())]


def test_a_process_that_has_ended_is_an_error_with_the_end_of_its_log(start):
    service = start("import sys; [print('line', n) for n in range(40)]; sys.exit(3)", component="broker")
    service.process.wait(LONG_S)
    with pytest.raises(BackendError, match="broker ended with status 3") as caught:
        service.check()
    assert str(caught.value).split("\n")[1:] == [f"    line {n}" for n in range(25, 40)]


def test_a_log_that_is_no_text_can_be_shown_and_a_lost_one_is_empty(start):
    service = start(r"import sys; sys.stdout.buffer.write(b'caf\xe9\n')")
    service.process.wait(LONG_S)
    assert service.last_lines() == "    caf\N{REPLACEMENT CHARACTER}"
    service.log_path.unlink()
    assert service.last_lines() == ""


def test_waiting_ends_when_the_process_does(start):
    service = start("print('no port'); raise SystemExit(4)")
    with pytest.raises(BackendError, match=r"(?s)worker ended with status 4.*no port"):
        service.wait_until(lambda: False, LONG_S)


def test_waiting_for_a_running_process_has_an_end(start):
    service = until_up(start(SLEEP))
    service.check()
    with pytest.raises(BackendError, match=r"(?s)worker is not ready after 0 s.*up"):
        service.wait_until(lambda: False, 0.0)
    assert service.exit_status() is None


def test_a_process_is_asked_to_end_before_it_is_made_to(start):
    polite = until_up(start(f"import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(5)); {SLEEP}"))
    polite.stop(LONG_S)
    assert polite.exit_status() == 5
    polite.stop(LONG_S)
    assert polite.exit_status() == 5


def test_a_process_that_ignores_sigterm_is_killed_with_its_children(start):
    service = until_up(start(STUBBORN_FAMILY))
    child = psutil.Process(int(service.log_path.read_text().split()[0]))
    service.stop(grace_s=0.2)
    assert service.exit_status() == -signal.SIGKILL
    while not has_ended(child):
        time.sleep(0.02)


def test_a_child_that_ignores_sigterm_does_not_outlive_a_parent_that_obeys(start):
    service = until_up(start(STUBBORN_CHILD))
    child = psutil.Process(int(service.log_path.read_text().split()[0]))
    service.stop(LONG_S)
    assert service.exit_status() == -signal.SIGTERM
    while not has_ended(child):
        time.sleep(0.02)


def test_the_guard_watches_a_service_until_it_has_been_stopped(start):
    guard = RecordingGuard()
    service = start(SLEEP, guard=guard)
    assert (guard.watched, guard.forgotten) == ([service.pid], [])
    service.stop(LONG_S)
    assert guard.forgotten == [service.pid]


def test_several_are_told_to_end_before_the_first_is_waited_for(start, tmp_path):
    told = tmp_path / "told"
    # The first ends only once the second has been told.
    waits = (
        f"import os, signal, sys, time\ndef end(*_):\n    while not os.path.exists({str(told)!r}): time.sleep(0.02)\n"
    )
    tells = f"import signal, sys\ndef end(*_):\n    open({str(told)!r}, 'w').close()\n"
    rest = f"    sys.exit(0)\nsignal.signal(signal.SIGTERM, end)\n{SLEEP}"
    services = [until_up(start(waits + rest, "first")), until_up(start(tells + rest, "second"))]
    stop_all(services, LONG_S)
    assert [service.exit_status() for service in services] == [0, 0]


def test_one_that_ignores_sigterm_does_not_keep_the_others_alive(start):
    services = [until_up(start(STUBBORN, "stubborn")), until_up(start(SLEEP, "willing"))]
    stop_all(services, grace_s=0.2)
    assert services[0].exit_status() == -signal.SIGKILL
    assert services[1].exit_status() in (-signal.SIGTERM, -signal.SIGKILL)


@pytest.mark.parametrize("program", [SLEEP, STUBBORN], ids=["willing", "stubborn"])
def test_a_process_of_an_earlier_parent_is_ended(start, program):
    process = psutil.Process(until_up(start(program)).pid)
    end_process(process.pid, process.create_time(), grace_s=0.2)
    while not has_ended(process):
        time.sleep(0.02)


def test_a_later_process_of_the_same_number_is_left_alone(start):
    service = until_up(start(SLEEP))
    end_process(service.pid, psutil.Process(service.pid).create_time() - 60)
    assert service.exit_status() is None
    service.stop(LONG_S)
    end_process(service.pid, 0.0)  # nobody has the number: nothing to end, and no error
    assert service.exit_status() == -signal.SIGTERM


def test_only_status_200_is_an_answer_and_no_proxy_is_asked(monkeypatch):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path == "/readyz" else 503)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    try:
        assert (answers(f"{url}/readyz"), answers(f"{url}/other")) == (True, False)
    finally:
        server.shutdown()
        server.server_close()
    assert answers(f"{url}/readyz") is False


@pytest.mark.parametrize("ephemeral_from", ["32768", "10001", "1024"])
def test_no_port_is_given_twice_while_nobody_listens_there_yet(tmp_path, monkeypatch, ephemeral_from):
    ports = tmp_path / "ip_local_port_range"
    ports.write_text(f"{ephemeral_from}\t60999\n")
    monkeypatch.setattr(processes, "_EPHEMERAL_PORTS", ports)
    given = [free_port() for _ in range(300)]
    assert len(set(given)) == len(given)


def test_a_port_is_none_that_connections_get(tmp_path, monkeypatch):
    ports = tmp_path / "ip_local_port_range"
    ports.write_text("11000\t60999\n")
    monkeypatch.setattr(processes, "_EPHEMERAL_PORTS", ports)
    assert max(free_port() for _ in range(20)) < 11_000


def test_without_linux_a_port_is_any_that_is_free(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "_EPHEMERAL_PORTS", tmp_path / "missing")
    assert free_port() > 1024


def test_a_free_port_accepts_once_somebody_listens():
    port = free_port()
    assert accepts(port) is False
    with socket.create_server(("127.0.0.1", port)):
        assert accepts(port) is True


def test_what_had_to_be_killed_is_named_and_has_logged_where_its_threads_were(start):
    program = f"import faulthandler, signal; faulthandler.register(signal.SIGUSR2); {STUBBORN}"
    stuck = until_up(start(program, "stuck", dump_signal=signal.SIGUSR2))
    polite = until_up(start(SLEEP, "polite"))
    assert stop_all([stuck, polite], grace_s=0.2) == ["stuck"]
    assert "most recent call first" in stuck.log_path.read_text()
