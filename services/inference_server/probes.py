"""What the server says about itself: /healthz, /readyz, /info, /openapi.json and /metrics."""

from flask import Blueprint, Response, current_app, jsonify, request
from prometheus_client.exposition import choose_encoder
from werkzeug.wrappers import Response as AnyResponse

from services.inference_server import openapi
from services.inference_server.state import ServerState

blueprint = Blueprint("probes", __name__)


def _state() -> ServerState:
    return current_app.extensions["inference_server"]


@blueprint.get("/healthz")
def healthz() -> tuple[Response, int]:
    """The process and its engine live."""
    failure = _state().batcher.failure
    if failure is not None:
        return jsonify(reason="engine_failed", message=f"the engine has stopped: {failure}"), 503
    return jsonify(status="ok"), 200


@blueprint.get("/readyz")
def readyz() -> tuple[Response, int]:
    """New work is welcome: the model is warm, and the server is not draining."""
    state = _state()
    if state.ready:
        return jsonify(status="ready"), 200
    reason = "draining" if state.draining.is_set() else "not_ready" if state.healthy else "engine_failed"
    return jsonify(reason=reason, message=f"no new work: {reason}"), 503


@blueprint.get("/info")
def info() -> Response:
    """Model, weights, decoder, engine, batching and versions; what a run records of the server."""
    return jsonify(_state().info)


@blueprint.get("/openapi.json")
def description() -> Response:
    """The OpenAPI description of this server."""
    return jsonify(openapi.describe(_state().settings))


@blueprint.get("/metrics")
def metrics() -> AnyResponse:
    """Prometheus metrics."""
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    return AnyResponse(encode(_state().metrics.registry), content_type=content_type)
