"""The Flask application: one blueprint per concern, and every error as JSON."""

from typing import Any

from flask import Flask, Response, jsonify
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from services.inference_server import predict, probes
from services.inference_server.errors import ApiError
from services.inference_server.state import ServerState


def create_app(state: ServerState) -> Flask:
    """An app around `state`, whose batcher may still be starting."""
    app = Flask("inference_server", static_folder=None)
    app.extensions["inference_server"] = state
    app.config["MAX_CONTENT_LENGTH"] = state.settings.max_request_bytes
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.register_blueprint(predict.blueprint)
    app.register_blueprint(probes.blueprint)

    def answer(error: ApiError) -> tuple[Response, int, dict[str, str]]:
        state.metrics.rejected.labels(error.reason).inc()
        return jsonify(error.body()), error.status, error.headers()

    @app.errorhandler(ApiError)
    def refused(error: ApiError) -> Any:
        return answer(error)

    @app.errorhandler(HTTPException)
    def failed(error: HTTPException) -> Any:
        if isinstance(error, RequestEntityTooLarge):
            return answer(ApiError(413, "too_many_bytes", "the body is larger than this server takes; see /info"))
        status = error.code or 500
        body, _, headers = answer(ApiError(status, error.name.lower().replace(" ", "_"), error.description or ""))
        allowed = error.get_response().headers.get("Allow")
        return body, status, headers | ({"Allow": allowed} if allowed else {})

    return app
