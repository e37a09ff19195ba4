import json
import logging
import os
import signal
import threading

import pytest
from kafka.errors import KafkaTimeoutError
from kafka.future import Future

from services.producer import main as producer
from services.producer.priority import take_priority


class FakeClient:
    """A Kafka client in memory that acknowledges everything, and raises a signal at its `signal_at`-th frame."""

    def __init__(self, signal_at=None):
        self.signal_at = signal_at
        self.sent = 0
        self.closed_with: float | None = None

    def send(self, topic, value, key, headers):
        self.sent += 1
        if self.sent == self.signal_at:
            os.kill(os.getpid(), signal.SIGTERM)
        return Future().success(None)

    def close(self, timeout):
        self.closed_with = timeout


@pytest.fixture(autouse=True)
def own_signal_handlers():
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(autouse=True)
def own_log_handlers():
    before = logging.root.handlers[:]
    yield
    logging.root.handlers[:] = before


def send(settings, client):
    return producer.run(settings, producer.make_schedule(settings), producer.SignalStop(), connect=lambda *_: client)


def test_a_run_reports_counts_percentiles_and_what_it_ran_with(make_settings):
    client = FakeClient()
    report = send(
        make_settings(start_at_ns=10**18, producer_index=2, cameras=3, rate_hz=4.0, duration_s=2.0, priority="normal"),
        client,
    )
    assert json.loads(json.dumps(report)) == report
    assert (report["run_id"], report["producer_index"], report["start_at_ns"]) == ("run", 2, 10**18)
    assert report["devices"] == ["cam-0006", "cam-0007", "cam-0008"]
    assert (report["scheduled"], report["sent"], report["unsent"]) == (24, 24, 0) == (client.sent, 24, 0)
    assert report["interrupted"] is False
    assert report["started_ns"] <= report["ended_ns"]
    assert report["client"]["acks"] == "all"
    assert report["scheduling"] == "default"
    assert client.closed_with == 5


def test_sigterm_during_the_run_reports_the_rest_as_unsent(make_settings):
    client = FakeClient(signal_at=3)
    report = send(make_settings(start_at_ns=0, rate_hz=5.0, duration_s=2.0, priority="normal"), client)
    assert report["interrupted"] is True
    assert (report["scheduled"], report["sent"], report["reasons"]) == (10, 3, {"interrupted": 7})
    assert report["unsent_frames"] == {"cam-0000": [3, 4, 5, 6, 7, 8, 9]}
    assert client.closed_with is not None


def test_sigterm_before_the_start_reports_everything_as_unsent(make_settings):
    settings = make_settings(start_at_ns=0, rate_hz=5.0, duration_s=2.0, priority="normal")

    def connect(*_):
        os.kill(os.getpid(), signal.SIGTERM)
        threading.Event().wait(60)  # the signal breaks this off
        raise AssertionError("the signal did not arrive")

    report = producer.run(settings, producer.make_schedule(settings), producer.SignalStop(), connect=connect)
    assert (report["interrupted"], report["sent"], report["reasons"]) == (True, 0, {"interrupted": 10})
    assert report["start_at_ns"] is None


def test_an_acknowledgement_that_never_comes_ends_in_a_report(make_settings):
    class Silent(FakeClient):
        def send(self, topic, value, key, headers):
            super().send(topic, value, key, headers)
            return Future()

        def close(self, timeout):
            super().close(timeout)
            raise KafkaTimeoutError("frames are left")

    client = Silent(signal_at=10)
    settings = make_settings(start_at_ns=0, rate_hz=5.0, duration_s=2.0, drain_timeout_s=0.01, priority="normal")
    assert send(settings, client)["reasons"] == {"no acknowledgement in time": 10}
    assert client.closed_with == 0


@pytest.mark.parametrize(
    ("environment", "complaint"),
    [
        ({"RATE_HZ": "fast"}, "RATE_HZ: Input should be a valid number"),
        ({"CAMERAS": "0"}, "CAMERAS: Input should be greater than 0"),
        ({"RUN_ID": ""}, "RUN_ID: Field required"),
        ({"ARRIVALS": "trace"}, "TRACE_FILE must name a file"),
        ({"ARRIVALS": "trace", "TRACE_FILE": "absent.txt"}, "absent.txt can't be read"),
        ({"SOURCE": "directory"}, "SOURCE_DIRECTORY must name a folder"),
        ({"SOURCE": "directory", "SOURCE_DIRECTORY": "absent"}, "absent is not a folder"),
        ({"MAX_IMAGE_BYTES": "999"}, "MAX_IMAGE_BYTES = 999"),
    ],
)
def test_bad_settings_are_named_on_stderr_and_nothing_is_reported(monkeypatch, capsys, caplog, environment, complaint):
    base = {"KAFKA_BOOTSTRAP": "127.0.0.1:1", "RUN_ID": "run", "STATUS_HOST": "127.0.0.1", "STATUS_PORT": "0"}
    for name, value in {**base, **environment}.items():
        monkeypatch.setenv(name, value)
    assert producer.main() == 2
    assert complaint in caplog.text
    assert capsys.readouterr().out == ""


def test_options_come_from_the_command_line_too(monkeypatch, caplog):
    monkeypatch.setenv("KAFKA_BOOTSTRAP", "127.0.0.1:1")
    monkeypatch.setenv("RUN_ID", "run")
    arguments = ["--source", "directory", "--source_directory", "absent", "--status_port", "0"]
    assert producer.main(arguments) == 2
    assert "absent is not a folder" in caplog.text


def test_a_trace_sets_the_schedule(make_settings, tmp_path):
    file = tmp_path / "trace.txt"
    file.write_text("0.5\n1\n")
    schedule = producer.make_schedule(make_settings(arrivals="trace", trace_file=file))
    assert schedule.offsets_ns(0).tolist() == [500_000_000, 1_000_000_000]


@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="only Linux has scheduling policies")
def test_the_reported_priority_is_the_one_in_force():
    seen = []
    # The policy belongs to a thread, so this one's goes away with it.
    thread = threading.Thread(target=lambda: seen.append((take_priority(), os.sched_getscheduler(0))))
    thread.start()
    thread.join()
    assert seen[0] in {("SCHED_RR", os.SCHED_RR), ("SCHED_OTHER", os.SCHED_OTHER)}
    assert os.sched_getscheduler(0) == os.SCHED_OTHER
