import threading
from typing import Any

import pytest

from services.inference_server.app import create_app
from services.inference_server.state import ServerState


@pytest.fixture
def client(app) -> Any:
    return app.test_client()


def test_a_loading_server_is_healthy_but_not_ready_and_says_when_to_come_back(settings, make_image):
    client: Any = create_app(ServerState(settings)).test_client()
    assert client.get("/healthz").status_code == 200
    assert client.get("/readyz").json["reason"] == "not_ready"
    response = client.post("/predict", data=make_image(), content_type="image/jpeg")
    assert response.status_code == 503
    assert response.json["reason"] == "not_ready"
    assert response.headers["Retry-After"] == "1"


def test_a_warm_server_is_ready(client):
    assert client.get("/readyz").json == {"status": "ready"}
    assert client.get("/info").json == {"model": "fake"}


def test_a_draining_server_is_unready_at_once_but_answers_who_reaches_it(client, state, make_image):
    state.draining.set()
    response = client.get("/readyz")
    assert response.status_code == 503
    assert response.json["reason"] == "draining"
    answer = client.post("/predict", data=make_image(77), content_type="image/jpeg")
    assert answer.json["class_id"] == 77


def test_a_dead_engine_fails_health(settings, make_image):
    state, ended = ServerState(settings), threading.Event()

    def broken():
        raise RuntimeError("no memory")

    state.batcher.start(broken, on_end=ended.set)
    assert ended.wait(10)
    client: Any = create_app(state).test_client()
    response = client.get("/healthz")
    assert response.status_code == 503
    assert "no memory" in response.json["message"]
    assert client.get("/readyz").json["reason"] == "engine_failed"
    refused = client.post("/predict", data=make_image(), content_type="image/jpeg")
    assert (refused.status_code, refused.json["reason"]) == (503, "engine_failed")


def test_metrics_count_what_happened(client, state, make_image):
    state.metrics.engine.info({"form": "folded-onednn"})
    client.post("/predict", data=make_image(), content_type="image/jpeg")
    client.post("/predict", data=b"x", content_type="image/jpeg")
    response = client.get("/metrics")
    assert response.mimetype == "text/plain"
    lines = response.text.splitlines()
    for line in (
        "inference_predictions_total 1.0",
        'inference_rejected_total{reason="not_an_image"} 1.0',
        "inference_queue_seconds_count 1.0",
        "inference_decode_seconds_count 1.0",
        "inference_forward_seconds_count 1.0",
        'inference_batch_images_bucket{le="1.0"} 1.0',
        "inference_in_flight 0.0",
        'inference_engine_info{form="folded-onednn"} 1.0',
    ):
        assert line in lines
