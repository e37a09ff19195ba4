"""What goes wrong in a pipeline, done on purpose: nothing may be lost, and the run must say what happened."""

import signal
from collections.abc import Callable

from kafka import KafkaProducer

from latencylab.runs import Run
from services.contract.message import FrameHeaders, make_image_id


def _send(backend, value: bytes, headers: list[tuple[str, bytes]]) -> None:
    producer = KafkaProducer(bootstrap_servers=backend.stack.kafka_bootstrap)
    producer.send("frames", key=b"intruder", value=value, headers=headers).get(timeout=30)
    producer.close()


def test_a_corrupt_jpeg_is_a_dead_letter_and_delays_nothing(backend, measured: Callable[..., Run]):
    head = FrameHeaders(make_image_id("intruder", "x", 0), "intruder", "x", 0, 1, 2, "nothing")
    run = measured(lambda: _send(backend, b"\xff\xd8 no picture", head.encode()), 1.0, rate_hz=2, duration_s=5)
    counts = run.info["counts"]
    assert counts["labelled"] == counts["stored"] == counts["scheduled"] == 10
    assert counts["dead"] == 1
    assert run.info["dead_by_reason"] == {"inference-consumer: HTTP 400": 1}
    assert any("belong to no scheduled frame" in reason for reason in run.info["invalid_reasons"])


def test_malformed_headers_are_dead_letters_of_both_consumers(backend, measured: Callable[..., Run]):
    run = measured(lambda: _send(backend, b"x", [("seq", b"one")]), 1.0, rate_hz=2, duration_s=4)
    counts = run.info["counts"]
    assert counts["labelled"] == counts["stored"] == counts["scheduled"] == 8
    assert run.info["dead_by_reason"] == {
        "db-consumer: malformed headers": 1,
        "inference-consumer: malformed headers": 1,
    }


def _kill_and_replace(backend, group: str, number: signal.Signals) -> Callable[[], None]:
    def action() -> None:
        process = backend.process(f"{group}-0")
        process.send_signal(number)
        process.wait()
        backend.start_consumer(group, 0)

    return action


def test_a_consumer_killed_in_mid_run_and_restarted_loses_nothing(backend, measured: Callable[..., Run]):
    for group in ("inference-consumer", "db-consumer"):
        run = measured(_kill_and_replace(backend, group, signal.SIGKILL), 2.0, producers=2, rate_hz=2, duration_s=6)
        counts = run.info["counts"]
        assert counts["labelled"] == counts["stored"] == counts["scheduled"] == 24, group
        assert f"{group}-0 ended during the run with status -9" in run.info["invalid_reasons"]
        assert not any("CSV" in reason or "MongoDB" in reason for reason in run.info["invalid_reasons"])


def test_a_consumer_that_leaves_in_order_and_one_that_joins_lose_nothing(backend, measured: Callable[..., Run]):
    def join() -> None:
        backend.start_consumer("inference-consumer", 1)

    joined = measured(join, 2.0, producers=2, rate_hz=2, duration_s=6)
    left = measured(_kill_and_replace(backend, "inference-consumer", signal.SIGTERM), 2.0, rate_hz=3, duration_s=6)
    for run in (joined, left):
        counts = run.info["counts"]
        assert counts["labelled"] == counts["stored"] == counts["scheduled"]
        assert not any("CSV" in reason or "MongoDB" in reason for reason in run.info["invalid_reasons"])


def test_a_server_that_is_busy_is_asked_again(measured: Callable[..., Run], tmp_path):
    # Sixteen at once into a queue of one: most requests are refused at first, none is lost.
    trace = tmp_path / "trace.txt"
    trace.write_text("0.5\n" * 16)
    run = measured(arrivals="trace", trace_file=str(trace), queue_max=1, images_in_flight=16)
    counts = run.info["counts"]
    assert counts["labelled"] == counts["stored"] == counts["scheduled"] == 16
    assert int(run.frames["attempts"].max()) > 1
