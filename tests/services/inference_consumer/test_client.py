import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from services.contract.clock import Clock
from services.inference_consumer.client import InferenceClient, RejectedError, UnavailableError


class Server(ThreadingHTTPServer):
    answers: list[tuple[int, dict[str, str]] | None]
    seen: list[tuple[str, str, bytes]]


@pytest.fixture
def server():
    """A real HTTP server whose answers are the list that a test fills: (status, headers), or None to hang up."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            running.seen.append((self.path, self.headers["Content-Type"], body))
            answer = running.answers.pop(0) if running.answers else (200, {})
            if answer is None:
                self.close_connection = True
                return
            status, headers = answer
            text = json.dumps({"label": "hen"}).encode()
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(text))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_):
            """Quiet."""

    running = Server(("127.0.0.1", 0), Handler)
    running.answers, running.seen = [], []
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield running
    running.shutdown()
    running.server_close()


@pytest.fixture
def client(server):
    return InferenceClient(f"http://127.0.0.1:{server.server_port}/", Clock(), timeout_s=30, retry_for_s=30)


def test_one_frame_is_one_request_with_its_times(client, server):
    answer = client.predict(b"jpeg")
    assert server.seen == [("/predict", "image/jpeg", b"jpeg")]
    assert (answer.body, answer.attempts) == ({"label": "hen"}, 1)
    assert answer.requested_ns <= answer.answered_ns


def test_a_busy_server_is_asked_again_after_the_time_it_gave(client, server):
    server.answers = [(503, {"Retry-After": "0.2"}), (503, {"Retry-After": "soon"})]
    began_ns = Clock().now_ns()
    answer = client.predict(b"jpeg")
    assert (answer.attempts, client.retries) == (3, {"HTTP 503": 2})
    assert answer.requested_ns - began_ns >= 200_000_000  # the stamp is that of the request that succeeded


def test_a_lost_connection_is_tried_again(client, server):
    server.answers = [None]
    assert client.predict(b"jpeg").attempts == 2
    assert client.retries == {"ConnectionError": 1}


@pytest.mark.parametrize("status", [400, 413, 415, 422])
def test_an_image_that_is_refused_is_not_tried_again(client, server, status):
    server.answers = [(status, {})]
    with pytest.raises(RejectedError, match=f"HTTP {status}"):
        client.predict(b"jpeg")
    assert len(server.seen) == 1


def test_a_server_that_stays_away_is_given_up(server):
    impatient = InferenceClient(f"http://127.0.0.1:{server.server_port}", Clock(), timeout_s=30, retry_for_s=0.001)
    server.answers = [(500, {})] * 50
    with pytest.raises(UnavailableError, match="HTTP 500"):
        impatient.predict(b"jpeg")
