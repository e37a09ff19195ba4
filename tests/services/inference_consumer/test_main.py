import threading
from types import SimpleNamespace

import pytest

from services.contract.clock import Clock
from services.contract.consumer import Frame
from services.contract.latency_csv import INFERENCE_COLUMNS
from services.contract.settings import InferenceConsumerSettings
from services.inference_consumer import main as inference_consumer
from services.inference_consumer.client import Answer, RejectedError, UnavailableError
from services.inference_consumer.main import LabelFrames

IDENTITY = {"partition": 0, "offset": 0, "bytes": 4}
LABEL = {"label": "hen", "class_id": 8, "score": 0.5, "model": "resnet50"}
BODY = {**LABEL, "timing_ns": {"queue": 10, "decode": 20, "inference": 100}}


class Client:
    """An inference client whose answers are `outcomes`, one by one, each given once `gate` is open."""

    def __init__(self):
        self.outcomes = []
        self.gate = threading.Event()
        self.gate.set()
        self.retries = {}
        self.asked = []

    def connect(self, url, clock, *, timeout_s, retry_for_s):
        self.connected = (url, timeout_s, retry_for_s)
        return self

    def predict(self, jpegs):
        self.asked.append(jpegs)
        self.gate.wait()
        outcomes = [self.outcomes.pop(0) if self.outcomes else Answer(4_000, 5_000, 1, BODY) for _ in jpegs]
        for outcome in outcomes:
            if isinstance(outcome, UnavailableError):
                raise outcome
        return outcomes


@pytest.fixture
def client(monkeypatch):
    made = Client()
    monkeypatch.setattr(inference_consumer, "InferenceClient", made.connect)
    yield made
    made.gate.set()


@pytest.fixture
def settings():
    base = {"kafka_bootstrap": "a:1", "mongodb_uri": "mongodb://db", "run_id": "run", "consumer_name": "pod-1"}
    server = {"inference_url": "http://server", "request_timeout_s": 7.0, "retry_for_s": 9.0}
    return InferenceConsumerSettings(**base, **server, images_in_flight=3, max_images_in_flight=16)


@pytest.fixture
def label(client, settings, writer):
    """Take frames that came together, wait until all are dealt with: the handler."""

    def run(*frames, **changes):
        handler = LabelFrames(SimpleNamespace(clock=Clock(), writer=writer), settings.model_copy(update=changes))
        handler.take(frames)
        client.gate.set()
        handler.close()
        return handler

    return run


@pytest.fixture
def make_frame(make_headers):
    """Frame `seq`; what becomes of it is told to `told`."""

    def make(seq=0, told=None):
        headers, told = make_headers(seq), [] if told is None else told
        row = {name: getattr(headers, name) for name in headers.__dataclass_fields__} | IDENTITY
        return Frame(
            headers, b"jpeg %d" % seq, row, 3_000, lambda: told.append("finished"), lambda *why: told.append(why)
        )

    return make


def test_a_labelled_frame_goes_to_its_document(label, writer, make_frame, make_headers):
    told = []
    label(make_frame(2, told))
    (write,) = writer.writes
    assert (write.image_id, write.stamp_path) == (make_headers(2).image_id, "inference.labelled_ns")
    assert write.fields == {
        "run": "run",
        **{f"inference.{name}": value for name, value in LABEL.items()},
        "inference.received_ns": 3_000,
        "inference.requested_ns": 4_000,
        "inference.answered_ns": 5_000,
        "inference.server_queue_ns": 10,
        "inference.server_decode_ns": 20,
        "inference.server_inference_ns": 100,
        "inference.attempts": 1,
    }
    assert told == []  # that is for the writer to say
    write.finished()
    assert told == ["finished"]


def test_the_row_and_its_stamps_are_the_columns_of_the_csv(label, writer, make_frame):
    label(make_frame())
    (write,) = writer.writes
    assert {*write.row, write.ack_column, "write_ns"} == set(INFERENCE_COLUMNS)
    assert write.ack_column == "labelled_ns"
    assert (write.row["requested_ns"], write.row["answered_ns"], write.row["label"]) == (4_000, 5_000, "hen")


def test_the_client_is_connected_as_the_settings_say(label, client):
    label()
    assert client.connected == ("http://server", 7.0, 9.0)


def test_each_frame_is_asked_for_once(label, client, writer, make_frame):
    handler = label(*(make_frame(seq) for seq in range(5)))
    assert sorted(jpeg for jpegs in client.asked for jpeg in jpegs) == [b"jpeg %d" % seq for seq in range(5)]
    assert sorted(write.row["seq"] for write in writer.writes) == list(range(5))
    assert handler.failure() is None


def test_room_is_what_the_limit_leaves_of_the_images_in_flight(client, settings, writer, make_frame):
    client.gate.clear()
    handler = LabelFrames(SimpleNamespace(clock=Clock(), writer=writer), settings)
    assert handler.room() == 3
    for seq in range(2):
        handler.take([make_frame(seq)])
    assert handler.room() == 1
    client.gate.set()
    handler.close()
    assert handler.room() == 3
    assert handler.report() == {
        "retries": {},
        "images_in_flight_limit": 3,
        "most_images_in_flight": 2,
        "requests_by_images": {1: 2},
    }


@pytest.mark.parametrize(("images", "requests"), [(1, [1]), (4, [4]), (5, [2, 3]), (9, [3, 3, 3])])
def test_frames_that_came_together_share_requests_of_equal_size(label, client, writer, make_frame, images, requests):
    handler = label(*(make_frame(seq) for seq in range(images)), images_per_request=4)
    assert sorted(len(jpegs) for jpegs in client.asked) == requests
    assert sum(size * number for size, number in handler.report()["requests_by_images"].items()) == images
    assert [sorted(write.row["seq"] for write in writer.writes), handler.room()] == [list(range(images)), 3]


def test_an_image_that_the_server_refuses_is_buried_and_others_go_on(label, client, writer, make_frame):
    told = []
    client.outcomes = [RejectedError("HTTP 415", "no JPEG")]
    handler = label(make_frame(0, told), make_frame(1, told), images_in_flight=1)
    assert told == [("HTTP 415", "no JPEG")]
    assert [write.row["seq"] for write in writer.writes] == [1]
    assert (handler.failure(), handler.room()) == (None, 1)


def test_a_server_that_stays_away_is_why_the_process_can_not_go_on(label, client, writer, make_frame):
    told, error = [], UnavailableError("HTTP 503")
    client.outcomes = [error]
    handler = label(make_frame(0, told))
    assert handler.failure() is error
    assert (writer.writes, told) == ([], [])


def test_an_answer_without_times_fails_rather_than_being_dropped(label, client, writer, make_frame):
    client.outcomes = [Answer(4_000, 5_000, 1, LABEL)]
    assert isinstance(label(make_frame()).failure(), KeyError)
    assert writer.writes == []


def test_a_frame_that_the_database_refuses_is_buried(label, writer, make_frame):
    told = []
    label(make_frame(0, told))
    writer.writes[0].refused("document too large")
    assert told == [("refused by MongoDB", "document too large")]


def test_an_adaptive_limit_grows_with_short_queues_and_shrinks_with_retries(label, client, make_frame):
    client.gate.clear()  # so that requests pile up to the limit
    grown = label(*(make_frame(seq) for seq in range(16)), images_in_flight=0)
    assert grown.report()["images_in_flight_limit"] > 2
    client.outcomes = [Answer(4_000, 5_000, 2, BODY)]
    shrunk = label(make_frame(), images_in_flight=0)
    assert shrunk.report()["images_in_flight_limit"] == 1


def test_the_process_is_made_from_the_environment_and_gives_its_exit_status(client, monkeypatch, writer):
    made = []

    class Process(SimpleNamespace):
        def __init__(self, settings, group, columns):
            super().__init__(clock=Clock(), writer=writer)
            made.append((settings, group, columns))

        def run(self, handler):
            handler.close()
            return 1

    environment = {"KAFKA_BOOTSTRAP": "a:1", "MONGODB_URI": "mongodb://db", "RUN_ID": "r", "INFERENCE_URL": "http://s"}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(inference_consumer, "ConsumerProcess", Process)
    monkeypatch.setattr(inference_consumer, "set_up_logging", lambda: None)
    assert inference_consumer.main() == 1
    ((settings, group, columns),) = made
    assert (settings.run_id, group, columns) == ("r", "inference-consumer", INFERENCE_COLUMNS)
    assert client.connected == ("http://s", settings.request_timeout_s, settings.retry_for_s)
