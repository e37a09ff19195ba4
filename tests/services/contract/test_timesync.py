import json
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from services.contract import timesync


@pytest.fixture
def responder():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))

        def respond() -> None:
            with suppress(OSError):  # the socket is closed at the end
                timesync.respond(sock, 30.0)

        threading.Thread(target=respond, daemon=True).start()
        yield sock.getsockname()[1]


def test_samples_are_ordered_on_each_clock(responder):
    samples = timesync.measure("127.0.0.1", responder, count=5, interval_s=0)
    assert len(samples) == 5
    for t1, t2, t3, t4 in samples:
        assert t1 <= t4
        assert t2 <= t3
    assert [s[0] for s in samples] == sorted(s[0] for s in samples)


def test_strange_datagrams_do_not_stop_the_responder(responder):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for noise in (b"", b"x" * 16, b"LLT1", b"y" * 400):
            sock.sendto(noise, ("127.0.0.1", responder))
    assert len(timesync.measure("127.0.0.1", responder, count=1)) == 1


def test_an_answer_to_an_earlier_exchange_is_not_taken():
    """A responder that first repeats a stale answer, then gives the right one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))

        def answer() -> None:
            datagram, peer = sock.recvfrom(64)
            magic, number, t1 = timesync._REQUEST.unpack(datagram)
            sock.sendto(timesync._ANSWER.pack(magic, number - 1, t1 - 5, 1, 1), peer)
            sock.sendto(timesync._ANSWER.pack(magic, number, t1, 7, 8), peer)

        threading.Thread(target=answer, daemon=True).start()
        ((_, t2, t3, _),) = timesync.measure("127.0.0.1", sock.getsockname()[1], count=1)
    assert (t2, t3) == (7, 8)


def test_silence_names_the_host_and_the_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]
        with pytest.raises(timesync.NoAnswerError, match=rf"127\.0\.0\.1 answered 0 of 3 .* UDP port {port}"):
            timesync.measure("127.0.0.1", port, count=3, timeout_s=0.2)


def test_the_file_alone_works_as_a_command():
    """As on a bare machine: the file by its path, without the project."""
    command = [sys.executable, "-I", str(Path(timesync.__file__))]
    with subprocess.Popen(
        [*command, "respond", "--port", "0", "--for-s", "20"], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            port = process.stdout.readline().split()[-1]
            answer = subprocess.run(
                [*command, "measure", "127.0.0.1", "--port", port, "--count", "3"],
                capture_output=True,
                text=True,
                check=True,
            )
        finally:
            process.kill()
    assert len(json.loads(answer.stdout)["samples"]) == 3


def test_the_command_says_why_it_failed():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        command = [
            sys.executable,
            str(Path(timesync.__file__)),
            "measure",
            "name.invalid",
            "--port",
            "1",
            "--count",
            "1",
        ]
        failed = subprocess.run(command, capture_output=True, text=True)
    assert failed.returncode == 1
    assert failed.stderr.startswith("timesync: ")
    assert "Traceback" not in failed.stderr
