"""The real HTTP server, with an engine that waits for the test."""

import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from services.inference_server.server import HttpServer


@pytest.fixture
def server(app, state, settings) -> Iterator[HttpServer]:
    local = settings.model_copy(update={"inference_host": "127.0.0.1", "inference_port": 0})
    server = HttpServer(app, local, state.draining)
    yield server
    server.drain(0.0)


def post(port: int, body: bytes, path: str = "/predict") -> tuple[int, dict, dict]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("POST", path, body, {"Content-Type": "image/jpeg"})
    response = connection.getresponse()
    answer = json.loads(response.read())
    connection.close()
    return response.status, answer, dict(response.getheaders())


def wait_until(condition: Callable[[], object], timeout_s: float = 30.0) -> None:
    end_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end_s, "what the test waits for did not happen"
        time.sleep(0.01)


def test_answers_over_a_socket(server, make_image):
    status, answer, _ = post(server.port, make_image(90))
    assert status == 200
    assert answer["class_id"] == 90


def test_a_connection_is_kept_alive(server, make_image):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    for grey in (10, 20, 30):
        connection.request("POST", "/predict", make_image(grey), {"Content-Type": "image/jpeg"})
        assert json.loads(connection.getresponse().read())["class_id"] == grey
    connection.close()


def test_waitress_own_errors_are_json_too(server):
    status, answer, _ = post(server.port, b"x" * 1_100_000)
    assert status == 413
    assert set(answer) == {"reason", "message"}
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as raw:
        raw.sendall(b"POST /predict HTTP/1.1\r\nContent-Length: many\r\n\r\n")
        head, _, body = raw.makefile("rb").read().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400")
    assert b"application/json" in head
    assert json.loads(body)["reason"] == "bad_request"


def test_a_client_that_leaves_while_waiting_costs_no_forward_pass(server, state, engine, make_image):
    engine.gate.clear()
    first = threading.Thread(target=post, args=(server.port, make_image(1)))
    first.start()
    assert engine.entered.acquire(timeout=10)
    leaver = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    leaver.request("POST", "/predict", make_image(2), {"Content-Type": "image/jpeg"})
    wait_until(lambda: state.batcher._waiting)
    [item] = state.batcher._waiting
    leaver.close()
    wait_until(lambda: item.terms.gone())
    engine.gate.set()
    first.join(10)
    wait_until(lambda: state.batcher.idle)
    assert engine.batches == [1]
    assert state.metrics.dropped.labels("client_gone")._value.get() == 1


def test_a_drain_answers_what_has_arrived_and_then_refuses_connections(server, state, engine, make_image):
    engine.gate.clear()
    answers: list[tuple[int, dict, dict]] = []
    askers = [
        threading.Thread(target=lambda grey=grey: answers.append(post(server.port, make_image(grey))))
        for grey in range(5)
    ]
    askers[0].start()
    assert engine.entered.acquire(timeout=10)  # the engine holds one image alone, however fast the others follow
    for asker in askers[1:]:
        asker.start()
    wait_until(lambda: state.batcher.places_taken == 4)
    state.draining.set()
    drain = threading.Thread(target=server.drain, args=(30.0,))
    drain.start()
    while True:  # until it listens no more
        try:
            socket.create_connection(("127.0.0.1", server.port), timeout=1).close()
        except OSError:
            break
    assert drain.is_alive(), "it waits for the five"
    engine.gate.set()
    drain.join(20)
    assert not drain.is_alive()
    for asker in askers:
        asker.join(10)
    assert sorted(answer["class_id"] for _, answer, _ in answers) == list(range(5))
    assert {headers.get("Connection") for _, _, headers in answers} == {"close"}
