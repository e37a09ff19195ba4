import base64
import io
import threading
import time

import pytest

from services.inference_server import decode
from services.inference_server.predict import DEADLINE_HEADER, TOP


@pytest.fixture
def client(app):
    return app.test_client()


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def reason_of(response) -> str:
    assert response.mimetype == "application/json"
    assert set(response.json) <= {"reason", "message", "retry_after_s"}
    assert response.json["message"]
    return response.json["reason"]


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_raw_bodies_and_base64_get_the_same_answer(client, make_image, kind):
    data = make_image(200, kind=kind)
    raw = client.post("/predict", data=data, content_type=f"image/{kind.lower()}").json
    encoded = client.post("/predict", json={"image": text(data)}).json
    assert raw["label"] == encoded["label"]
    assert raw["class_id"] == encoded["class_id"] == 200
    assert raw["score"] == 1
    assert raw["model"] == "resnet50"
    assert len(raw["top"]) == TOP
    assert raw["top"][0] == {"label": raw["label"], "class_id": 200, "score": 1}
    assert set(raw["timing_ns"]) == {"queue", "decode", "inference"}
    assert all(isinstance(value, int) and value >= 0 for value in raw["timing_ns"].values())


def test_a_batch_answers_in_order_and_a_bad_image_hurts_nobody_else(client, make_image):
    images = [make_image(10), b"no image", make_image(30, kind="PNG"), b""]
    answers = client.post("/predict/batch", json={"images": [text(image) for image in images]}).json["predictions"]
    assert [answer.get("class_id") for answer in answers] == [10, None, 30, None]
    assert [answer.get("reason") for answer in answers] == [None, "not_an_image", None, "no_image"]
    parts = {"image": [(io.BytesIO(image), "frame.jpg") for image in images]}
    again = client.post("/predict/batch", data=parts).json["predictions"]
    assert [answer.get("class_id") for answer in again] == [10, None, 30, None]


@pytest.mark.parametrize(("images", "batches"), [(3, [3]), (6, [4, 2])])
def test_the_images_of_a_request_fill_passes_from_the_first_on(client, engine, make_image, images, batches):
    parts = {"image": [(io.BytesIO(make_image(grey)), "frame.jpg") for grey in range(images)]}
    answers = client.post("/predict/batch", data=parts).json["predictions"]
    assert [answer["class_id"] for answer in answers] == list(range(images))
    assert [answer["batch_images"] for answer in answers] == [size for size in batches for _ in range(size)]
    assert engine.batches == batches


def test_a_failure_in_the_middle_of_a_request_loses_no_place_in_the_queue(client, state, make_image, monkeypatch):
    decoded = iter([decode.to_array(make_image())])  # then it is exhausted: an error that no code expects
    monkeypatch.setattr(decode, "to_array", lambda *_: next(decoded))
    parts = {"image": [(io.BytesIO(make_image()), "frame.jpg") for _ in range(3)]}
    assert client.post("/predict/batch", data=parts).status_code == 500
    assert state.batcher.idle


@pytest.mark.parametrize(
    ("arguments", "status", "reason"),
    [
        ({"json": {}}, 400, "no_image"),
        ({"json": {"image": None}}, 400, "no_image"),
        ({"json": {"image": ""}}, 400, "no_image"),
        ({"data": b"", "content_type": "image/jpeg"}, 400, "no_image"),
        ({"json": ["image"]}, 400, "not_json"),
        ({"data": b"{", "content_type": "application/json"}, 400, "not_json"),
        ({"json": {"image": "é!"}}, 400, "not_base64"),
        ({"json": {"image": "abc"}}, 400, "not_base64"),
        ({"json": {"image": 7}}, 400, "not_base64"),
        ({"data": b"GIF89a", "content_type": "image/jpeg"}, 400, "not_an_image"),
        ({"json": {"image": text(b"\xff\xd8\xff")}}, 400, "not_an_image"),
        ({"data": b"x" * 100_001, "content_type": "image/jpeg"}, 413, "too_many_bytes"),
        ({"data": b"x" * 1_000_001, "content_type": "image/jpeg"}, 413, "too_many_bytes"),
        ({"json": {"image": "A" * 140_000}}, 413, "too_many_bytes"),
        ({"data": b"GIF89a", "content_type": "image/gif"}, 415, "media_type"),
        ({"data": b"x"}, 415, "media_type"),
    ],
)
def test_bad_requests_say_what_is_wrong(client, state, arguments, status, reason):
    response = client.post("/predict", **arguments)
    assert response.status_code == status
    assert reason_of(response) == reason
    assert state.batcher.idle, "no place in the queue is lost"
    assert state.metrics.rejected.labels(reason)._value.get() == 1


def test_too_many_pixels(client, make_image):
    response = client.post("/predict", data=make_image(size=(1100, 1000)), content_type="image/jpeg")
    assert response.status_code == 413
    assert reason_of(response) == "too_many_pixels"


@pytest.mark.parametrize(
    ("arguments", "status", "reason"),
    [
        ({"json": {"images": []}}, 400, "no_image"),
        ({"json": {"images": "no list"}}, 400, "no_image"),
        ({"json": {"images": [""] * 9}}, 413, "too_many_images"),
        ({"data": {"other": (io.BytesIO(b"x"), "x")}}, 400, "no_image"),
        ({"data": b"x", "content_type": "image/jpeg"}, 415, "media_type"),
    ],
)
def test_bad_batches_say_what_is_wrong(client, state, arguments, status, reason):
    response = client.post("/predict/batch", **arguments)
    assert response.status_code == status
    assert reason_of(response) == reason
    assert state.batcher.idle


def test_unknown_paths_and_methods_answer_in_json(client):
    assert reason_of(client.get("/nowhere")) == "not_found"
    response = client.get("/predict")
    assert response.status_code == 405
    assert "POST" in response.headers["Allow"]
    assert reason_of(response) == "method_not_allowed"


def test_a_deadline_that_passed_costs_nothing(client, engine, make_image, state):
    headers = {DEADLINE_HEADER: str(time.time_ns() - 1)}
    response = client.post("/predict", data=make_image(), content_type="image/jpeg", headers=headers)
    assert response.status_code == 504
    assert reason_of(response) == "deadline_passed"
    assert engine.batches == []
    assert state.metrics.dropped.labels("deadline_passed")._value.get() == 1


@pytest.mark.parametrize("value", ["soon", "-1", "1.5", ""])
def test_a_deadline_must_be_digits(client, make_image, value):
    headers = {DEADLINE_HEADER: value}
    response = client.post("/predict", data=make_image(), content_type="image/jpeg", headers=headers)
    assert response.status_code == 400
    assert reason_of(response) == "bad_deadline"


def test_a_client_that_has_gone_is_dropped(client, engine, make_image):
    gone = {"waitress.client_disconnected": lambda: True}
    response = client.post("/predict", data=make_image(), content_type="image/jpeg", environ_overrides=gone)
    assert reason_of(response) == "client_gone"
    assert engine.batches == []


def test_a_full_queue_answers_503_at_once_and_loses_nobody(client, app, state, engine, make_image):
    engine.gate.clear()
    answers = []

    def ask(greys: list[int]) -> None:
        images = [text(make_image(grey)) for grey in greys]
        answers.extend(app.test_client().post("/predict/batch", json={"images": images}).json["predictions"])

    askers = [threading.Thread(target=ask, args=(greys,)) for greys in ([1], list(range(2, 10)))]
    askers[0].start()
    assert engine.entered.acquire(timeout=10)  # the first runs, the other eight fill the queue
    askers[1].start()
    while state.batcher.places_taken < 8:
        time.sleep(0.01)
    refused = client.post("/predict", json={"image": text(make_image())})
    assert refused.status_code == 503
    assert reason_of(refused) == "queue_full"
    assert int(refused.headers["Retry-After"]) >= 1
    engine.gate.set()
    for asker in askers:
        asker.join(10)
    assert sorted(answer["class_id"] for answer in answers) == list(range(1, 10))
