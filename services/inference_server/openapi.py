"""The OpenAPI 3.1 description of the server's interface."""

from typing import Any, Final

from services.contract.settings import InferenceServerSettings

_INT: Final = {"type": "integer"}
_TEXT: Final = {"type": "string"}
_BASE64: Final = {"type": "string", "contentEncoding": "base64", "description": "a JPEG or PNG in base64"}

_STATUS_OF_REASON: Final = {
    400: ("no_image", "not_json", "not_base64", "not_an_image", "bad_deadline", "bad_request"),
    413: ("too_many_bytes", "too_many_pixels", "too_many_images"),
    415: ("media_type",),
    503: ("queue_full", "not_ready", "engine_failed", "client_gone"),
    504: ("deadline_passed",),
}


def describe(settings: InferenceServerSettings) -> dict[str, Any]:
    """The whole document, with this server's limits in it."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Inference server",
            "version": "1",
            "description": "Labels JPEG and PNG images with ResNet50.",
        },
        "paths": {
            "/predict": {"post": _predict(settings)},
            "/predict/batch": {"post": _predict_batch(settings)},
            "/healthz": {"get": _probe("healthz", "The process and its engine live.", can_fail=True)},
            "/readyz": {"get": _probe("readyz", "The model is warm and new work is welcome.", can_fail=True)},
            "/info": {"get": _probe("info", "Model, weights, decoder, engine, batching, limits and versions.")},
            "/openapi.json": {"get": _probe("openapi", "This document.")},
            "/metrics": {"get": _metrics()},
        },
        "components": {"schemas": _schemas(), "responses": _responses(), "parameters": _parameters()},
    }


def _predict(settings: InferenceServerSettings) -> dict[str, Any]:
    raw = {"schema": {"description": f"the file, at most {settings.max_image_bytes} bytes"}}
    return {
        "operationId": "predict",
        "summary": "Label one image.",
        "parameters": [{"$ref": "#/components/parameters/deadline"}],
        "requestBody": {
            "required": True,
            "content": {
                "image/jpeg": raw,
                "image/png": raw,
                "application/json": {"schema": _object({"image": _BASE64})},
            },
        },
        "responses": {"200": _json("the label", "Prediction"), **_errors(400, 413, 415, 503, 504)},
    }


def _predict_batch(settings: InferenceServerSettings) -> dict[str, Any]:
    count = {"minItems": 1, "maxItems": settings.queue_max}
    files = {"type": "array", "items": {"contentMediaType": "application/octet-stream"}, **count}
    return {
        "operationId": "predictBatch",
        "summary": "Label several images; a bad one gives an error in its place.",
        "parameters": [{"$ref": "#/components/parameters/deadline"}],
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {"schema": _object({"image": files})},
                "application/json": {"schema": _object({"images": {"type": "array", "items": _BASE64, **count}})},
            },
        },
        "responses": {
            "200": _json("a label or an error for each image, in their order", "Predictions"),
            **_errors(400, 413, 415, 503),
        },
    }


def _probe(operation: str, summary: str, can_fail: bool = False) -> dict[str, Any]:
    content = {"application/json": {"schema": {"type": "object"}}}
    answers = {"200": {"description": summary, "content": content}, **(_errors(503) if can_fail else {})}
    return {"operationId": operation, "summary": summary, "responses": answers}


def _metrics() -> dict[str, Any]:
    kinds = ("text/plain", "application/openmetrics-text")
    content = {kind: {"schema": _TEXT} for kind in kinds}
    return {
        "operationId": "metrics",
        "summary": "Prometheus metrics.",
        "responses": {"200": {"description": "the metrics", "content": content}},
    }


def _object(properties: dict[str, Any], optional: tuple[str, ...] = ()) -> dict[str, Any]:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required}


def _json(description: str, schema: str) -> dict[str, Any]:
    reference = {"$ref": f"#/components/schemas/{schema}"}
    return {"description": description, "content": {"application/json": {"schema": reference}}}


def _errors(*statuses: int) -> dict[str, Any]:
    return {str(status): {"$ref": f"#/components/responses/{status}"} for status in statuses}


def _schemas() -> dict[str, Any]:
    guess = {"label": _TEXT, "class_id": {**_INT, "minimum": 0}, "score": {"type": "number", "minimum": 0}}
    durations = {name: {**_INT, "minimum": 0} for name in ("queue", "decode", "inference")}
    prediction = _object(
        {
            **guess,
            "top": {"type": "array", "minItems": 1, "items": _object(guess)},
            "model": _TEXT,
            "timing_ns": _object(durations),
            "batch_images": {**_INT, "minimum": 1, "description": "images in the forward pass it was part of"},
        }
    )
    either = [{"$ref": "#/components/schemas/Prediction"}, {"$ref": "#/components/schemas/Error"}]
    return {
        "Prediction": prediction,
        "Predictions": _object({"predictions": {"type": "array", "items": {"anyOf": either}}}),
        "Error": _object(
            {"reason": _TEXT, "message": _TEXT, "retry_after_s": {"type": "number"}}, optional=("retry_after_s",)
        ),
    }


def _responses() -> dict[str, Any]:
    responses = {str(status): _json(", ".join(reasons), "Error") for status, reasons in _STATUS_OF_REASON.items()}
    retry_after = {"description": "whole seconds, from the measured rate of service", "schema": {"type": "integer"}}
    responses["503"]["headers"] = {"Retry-After": retry_after}
    return responses


def _parameters() -> dict[str, Any]:
    schema = {"type": "string", "pattern": "^[0-9]{1,19}$"}
    description = "nanoseconds since the epoch after which nobody wants the answer: it is then dropped unserved (504)"
    deadline = {"name": "X-Deadline-Ns", "in": "header", "schema": schema, "description": description}
    return {"deadline": deadline}
