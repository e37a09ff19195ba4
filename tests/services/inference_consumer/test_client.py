import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from services.contract.clock import Clock
from services.inference_consumer.client import InferenceClient, RejectedError, UnavailableError


class Server(ThreadingHTTPServer):
    answers: list[tuple[int, dict[str, str]] | None]
    seen: list[tuple[str, str, bytes]]
    body: dict[str, object]


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
            text = json.dumps(running.body).encode()
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(text))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_):
            """Quiet."""

    running = Server(("127.0.0.1", 0), Handler)
    running.answers, running.seen, running.body = [], [], {"label": "hen"}
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield running
    running.shutdown()
    running.server_close()


@pytest.fixture
def client(server):
    return InferenceClient(f"http://127.0.0.1:{server.server_port}/", Clock(), timeout_s=30, retry_for_s=30)


def test_one_frame_is_one_request_with_its_times(client, server):
    [answer] = client.predict([b"jpeg"])
    assert server.seen == [("/predict", "image/jpeg", b"jpeg")]
    assert (answer.body, answer.attempts) == ({"label": "hen"}, 1)
    assert answer.requested_ns <= answer.answered_ns


def test_a_busy_server_is_asked_again_after_the_time_it_gave(client, server):
    server.answers = [(503, {"Retry-After": "0.2"}), (503, {"Retry-After": "soon"})]
    began_ns = Clock().now_ns()
    [answer] = client.predict([b"jpeg"])
    assert (answer.attempts, client.retries) == (3, {"HTTP 503": 2})
    assert answer.requested_ns - began_ns >= 200_000_000  # the stamp is that of the request that succeeded


def test_a_lost_connection_is_tried_again(client, server):
    server.answers = [None]
    [answer] = client.predict([b"jpeg"])
    assert answer.attempts == 2
    assert client.retries == {"ConnectionError": 1}


@pytest.mark.parametrize("status", [400, 413, 415, 422])
def test_an_image_that_is_refused_is_not_tried_again(client, server, status):
    server.answers = [(status, {})]
    [answer] = client.predict([b"jpeg"])
    assert isinstance(answer, RejectedError)
    assert answer.reason == f"HTTP {status}"
    assert len(server.seen) == 1


def test_a_server_that_stays_away_is_given_up(server):
    impatient = InferenceClient(f"http://127.0.0.1:{server.server_port}", Clock(), timeout_s=30, retry_for_s=0.001)
    server.answers = [(500, {})] * 50
    with pytest.raises(UnavailableError, match="HTTP 500"):
        impatient.predict([b"jpeg"])


def test_several_frames_are_one_request(client, server):
    server.body = {"predictions": [{"label": "hen"}, {"label": "cup"}]}
    first, second = client.predict([b"one", b"two"])
    ((path, media_type, body),) = server.seen
    assert (path, media_type.split(";")[0]) == ("/predict/batch", "multipart/form-data")
    assert body.index(b"one") < body.index(b"two")
    assert (first.body, second.body) == ({"label": "hen"}, {"label": "cup"})
    assert (first.requested_ns, first.answered_ns) == (second.requested_ns, second.answered_ns)


def test_one_bad_among_several_is_asked_for_by_itself_and_the_others_are_not(client, server):
    server.body = {"predictions": [{"label": "hen"}, {"reason": "not_an_image", "message": "damaged"}]}
    server.answers = [(200, {}), (400, {})]
    good, bad = client.predict([b"one", b"two"])
    assert good.body == {"label": "hen"}
    assert isinstance(bad, RejectedError)
    assert [(path, body) for path, _, body in server.seen][1:] == [("/predict", b"two")]


def test_a_server_that_takes_no_several_is_asked_for_each(client, server):
    server.answers = [(413, {})]
    answers = client.predict([b"one", b"two"])
    assert [answer.body for answer in answers] == [{"label": "hen"}] * 2
    assert [body for _, _, body in server.seen][1:] == [b"one", b"two"]


def test_several_frames_wait_together_for_a_busy_server(client, server):
    server.body = {"predictions": [{"label": "hen"}] * 2}
    server.answers = [(503, {"Retry-After": "0.05"})]
    answers = client.predict([b"one", b"two"])
    assert [answer.attempts for answer in answers] == [2, 2]
    assert [path for path, _, _ in server.seen] == ["/predict/batch"] * 2
