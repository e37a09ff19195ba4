"""Programs forked from the real fork server behave as if they had been started from their files."""

import os
import signal
import subprocess
import sys

import psutil
import pytest

from latencylab.backends.forkserver import ForkServer, fork
from latencylab.backends.processes import Service, spawn

LONG_S = 120.0  # never reached unless something is broken
SLEEP = "import time; print('up', flush=True); time.sleep(600)"


@pytest.fixture
def start(tmp_path):
    """Start a program as a forked service; whatever still runs at the end of the test is killed."""
    services = []

    def make(program, name="forked_program", arguments=(), how=fork, **more):
        (tmp_path / f"{name}.py").write_text(program)
        command = [sys.executable, "-m", name, *arguments]
        log_path = tmp_path / "logs" / f"{name}.log"
        options = {"environment": {}, "working_directory": tmp_path, **more}
        services.append(Service(name, command, log_path=log_path, start=how, **options))
        return services[-1]

    yield make
    for service in services:
        if service.exit_status() is None:
            os.killpg(service.pid, signal.SIGKILL)
            service.process.wait(LONG_S)


def until_up(service):
    service.wait_until(lambda: "up" in service.log_path.read_text(), LONG_S)
    return service


@pytest.mark.parametrize("how", [fork, spawn], ids=["forked", "spawned"])
def test_it_runs_as_a_program_of_its_own(start, tmp_path, how):
    program = """
import os, signal, sys
print(__name__, sys.argv[1:], os.environ["ADDED"], os.getcwd(), repr(sys.stdin.read()))
print(os.getpgid(0) == os.getpid(), signal.getsignal(signal.SIGINT) is signal.default_int_handler)
print("error", file=sys.stderr)
sys.exit(7)
"""
    report = tmp_path / "report"
    service = start(
        program,
        arguments=("--one", "two"),
        how=how,
        environment={"ADDED": "added"},
        output_path=report,
    )
    assert service.process.wait(LONG_S) == 7
    assert service.exit_status() == 7
    assert report.read_text().splitlines() == [
        f"__main__ ['--one', 'two'] added {tmp_path.resolve()} ''",
        "True True",
    ]
    assert service.log_path.read_text() == "error\n"


def test_output_without_a_file_of_its_own_joins_the_log(start):
    for _ in range(2):
        service = start("import sys; print('out', flush=True); print('error', file=sys.stderr)")
        assert service.process.wait(LONG_S) == 0
    assert service.log_path.read_text().split() == ["out", "error"] * 2


def test_the_services_are_imported_already_and_no_thread_runs(start):
    service = start("import sys, threading; print('kafka' in sys.modules, threading.active_count())")
    assert service.process.wait(LONG_S) == 0
    assert service.log_path.read_text().split() == ["True", "1"]


def test_two_do_not_draw_the_same_random_numbers(start):
    for _ in range(2):
        service = start("import random, uuid; print(random.random(), uuid.uuid4())")
        service.process.wait(LONG_S)
    assert len(set(service.log_path.read_text().split())) == 4


def test_an_exception_is_in_its_log_and_its_status(start):
    service = start("raise RuntimeError('no port')")
    assert service.process.wait(LONG_S) == 1
    assert "RuntimeError: no port" in service.last_lines()


def test_it_is_asked_to_end_and_then_made_to(start):
    polite = until_up(start(f"import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(5)); {SLEEP}"))
    polite.stop(LONG_S)
    assert polite.exit_status() == 5
    polite.process.send_signal(signal.SIGTERM)  # nobody has its number now: no error
    stubborn = until_up(start(f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEP}", "stubborn"))
    with pytest.raises(subprocess.TimeoutExpired):
        stubborn.process.wait(0.01)
    stubborn.process.send_signal(signal.SIGTERM)
    stubborn.stop(grace_s=0.2)
    assert stubborn.exit_status() == -signal.SIGKILL


def test_the_fork_server_ends_with_its_owner():
    owner = """
import time
from latencylab.backends.forkserver import ForkServer
print(ForkServer.shared()._process.pid, flush=True)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", owner], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        server = psutil.Process(pid)
        process.kill()
        server.wait(LONG_S)


def test_an_owner_that_is_interrupted_while_it_waits_leaves_no_program(start, monkeypatch):
    """As in a notebook, whose kernel lives on: the next program asked for must not be taken for the lost one."""
    server = ForkServer.shared()

    def interrupt(timeout_s):
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(server, "_read", interrupt)
    with pytest.raises(KeyboardInterrupt):
        start(SLEEP, name="lost")
    kept = until_up(start(SLEEP, name="kept"))
    children = psutil.Process(server._process.pid).children()
    assert [child.pid for child in children if child.status() != psutil.STATUS_ZOMBIE] == [kept.pid]
