"""The real server in a process of its own, with TensorFlow and the real network."""

import io
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import requests
from PIL import Image

from services.contract.settings import InferenceServerSettings
from services.inference_server import agreement, artefacts, calibrate, decode, model, weights
from services.inference_server.cpu import Cpu
from services.inference_server.forms import FORMS, Plan

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1200)]


@dataclass
class Server:
    process: subprocess.Popen[str]
    url: str

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(120)


def start(cache: Path, **environment: str) -> Server:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = {"INFERENCE_HOST": "127.0.0.1", "INFERENCE_PORT": str(port), "WEIGHTS": "random", "CALIBRATION_S": "0"}
    variables = {**os.environ, **settings, "CACHE_DIRECTORY": str(cache), **environment}
    command = [sys.executable, "-m", "services.inference_server"]
    root = Path(__file__).parents[3]
    return Server(
        subprocess.Popen(command, env=variables, cwd=root, stderr=subprocess.PIPE, text=True),
        f"http://127.0.0.1:{port}",
    )


def wait_until_ready(server: Server) -> None:
    while server.process.poll() is None:
        try:
            if requests.get(f"{server.url}/readyz", timeout=30).ok:
                return
        except requests.ConnectionError:
            pass
        time.sleep(0.2)
    raise AssertionError(f"the server ended: {server.process.communicate()[1][-3000:]}")


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def server(cache) -> Iterator[Server]:
    server = start(cache)
    wait_until_ready(server)
    yield server
    server.process.kill()
    server.process.communicate()


@pytest.fixture(scope="module")
def pictures() -> list[bytes]:
    """Ten JPEGs of 640×480."""
    files = []
    for frame in [*agreement.make_frames(), *agreement.make_frames()[:2, ::-1]]:
        buffer = io.BytesIO()
        Image.fromarray(frame).resize((640, 480)).save(buffer, "JPEG", quality=85)
        files.append(buffer.getvalue())
    return files


def test_served_labels_equal_plain_keras_predictions_of_the_same_jpegs(server, pictures):
    keras_model = model.load_keras_model(InferenceServerSettings(weights="random"))
    expected = agreement.predict_plainly(keras_model, np.stack([decode.to_array(data) for data in pictures]))
    assert len(set(expected.argmax(axis=1))) > 1, "a network that says the same of everything proves nothing"

    def ask(data: bytes) -> dict:
        headers = {"Content-Type": "image/jpeg"}
        return requests.post(f"{server.url}/predict", data=data, headers=headers, timeout=120).json()

    with ThreadPoolExecutor(len(pictures)) as pool:
        answers = list(pool.map(ask, pictures))
    parts = [("image", ("frame.jpg", data)) for data in pictures]
    batched = requests.post(f"{server.url}/predict/batch", files=parts, timeout=120).json()["predictions"]
    for answer in (answers, batched):
        assert [entry["class_id"] for entry in answer] == expected.argmax(axis=1).tolist()
        assert [entry["score"] for entry in answer] == pytest.approx(expected.max(axis=1), abs=1e-3)
    info = requests.get(f"{server.url}/info", timeout=30).json()
    assert info["weights_sha256"] == weights.hash_weights(keras_model)


def test_info_says_what_runs_and_that_the_weights_mean_nothing(server):
    info = requests.get(f"{server.url}/info", timeout=30).json()
    assert info["model"] == "resnet50"
    assert info["weights"] == "random"
    assert "labels and scores mean nothing" in info["weights_caveat"]
    assert info["engine"]["form"] in FORMS
    assert info["engine"]["agreement"]["agrees"] is True
    assert info["engine"]["peak_mib"] > 0
    assert {"tensorflow-cpu", "keras", "simplejpeg"} <= set(info["versions"])
    assert 'inference_engine_info{form="' in requests.get(f"{server.url}/metrics", timeout=30).text


def test_sigterm_answers_what_has_arrived_and_ends_with_status_0(server, pictures):
    def ask(data: bytes) -> int:
        headers = {"Content-Type": "image/jpeg"}
        return requests.post(f"{server.url}/predict", data=data, headers=headers, timeout=120).status_code

    with ThreadPoolExecutor(len(pictures)) as pool:
        answers = [pool.submit(ask, data) for data in pictures]
        while "inference_in_flight 10.0" not in requests.get(f"{server.url}/metrics", timeout=30).text:
            if any(answer.done() for answer in answers):
                break
        assert server.stop() == 0
        assert [answer.result() for answer in answers] == [200] * len(pictures)


@pytest.mark.parametrize(("form", "top1"), [("folded-eigen", 8), ("bfloat16-onednn", 6), ("onnx", 8)])
def test_other_forms_agree_with_plain_keras(cache, form, top1):
    settings = InferenceServerSettings(weights="random", batch_max=2)
    [result] = calibrate.run(settings, artefacts.folder_of(settings, cache), [Plan(FORMS[form], 2)], 900)
    assert result.softmax_difference <= FORMS[form].tolerance
    assert result.same_top1 >= top1  # bfloat16 may turn a near tie, and is then not admitted
    assert result.agrees is (result.same_top1 == agreement.FRAMES)
    assert result.alone_s > 0
    assert result.batched_s > 0


def test_a_form_that_does_not_exist_ends_the_process_with_the_reason(cache):
    server = start(cache, ENGINE_FORM="quantum")
    _, errors = server.process.communicate(timeout=300)
    assert server.process.returncode == 1
    assert "ENGINE_FORM=quantum: tensorflow has the forms" in errors


def test_a_calibration_that_has_no_time_falls_back_to_the_form_expected_fastest(cache):
    settings = InferenceServerSettings(weights="random", calibration_s=1e-9)
    choice = calibrate.choose(settings, artefacts.folder_of(settings, cache), Cpu("made up", frozenset(), 2))
    assert choice.plan.form.name == "folded-onednn"
    assert choice.measurements == ()


def test_a_server_calibrates_at_its_first_start_and_remembers_it(cache):
    # Two threads: two plans, both measured within so long on any machine, and two are a choice to remember.
    variables = {"ENGINE": "onnxruntime", "INTRA_OP_THREADS": "2", "CALIBRATION_S": "300", "BATCH_MAX": "2"}
    engines = []
    for _ in range(2):
        server = start(cache, **variables)
        wait_until_ready(server)
        engines.append(requests.get(f"{server.url}/info", timeout=30).json()["engine"])
        server.process.kill()
        server.process.communicate()
    first, second = engines
    assert [(m["form"], m["inter_op_threads"]) for m in first["calibration"]] == [("onnx", 1), ("onnx", 2)]
    assert "measured at this start" in first["chosen_because"]
    assert "remembered from an earlier calibration" in second["chosen_because"]
    for key in ("form", "intra_op_threads", "inter_op_threads", "calibration"):
        assert first[key] == second[key]
    assert all(m["agrees"] for m in first["calibration"])


def test_a_form_that_turns_out_larger_than_the_memory_budget_ends_the_process_with_the_reason(cache):
    server = start(cache, MEMORY_BUDGET_BYTES="100000000")  # no calibration has measured any form
    _, errors = server.process.communicate(timeout=300)
    assert server.process.returncode == 1
    assert "more than MEMORY_BUDGET_BYTES=100000000" in errors
