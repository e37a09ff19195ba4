"""The application does what its OpenAPI description says, whatever schemathesis sends it."""

import base64
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import positive_data_acceptance

from services.contract.settings import InferenceServerSettings
from services.inference_server import openapi

OPERATIONS = [
    (path, method)
    for path, methods in openapi.describe(InferenceServerSettings())["paths"].items()
    for method in methods
]


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_answers_are_as_described(app, path, method):
    operation = schemathesis.openapi.from_wsgi("/openapi.json", app)[path][method]

    @given(case=operation.as_strategy())
    @settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
    def check(case: schemathesis.Case) -> None:
        # No schema can say what a JPEG is, and a deadline that has passed is answered with 504.
        response = case.call_and_validate(excluded_checks=[positive_data_acceptance, not_a_server_error])
        assert response.status_code in (200, 400, 405, 413, 415, 504)

    check()


@pytest.mark.parametrize("path", ["/predict", "/predict/batch"])
def test_labels_are_as_described(app, make_image, path):
    operation = schemathesis.openapi.from_wsgi("/openapi.json", app)[path]["post"]
    image = base64.b64encode(make_image()).decode()
    body: Any = {"image": image} if path == "/predict" else {"images": [image, image, "AAAA"]}
    response = operation.Case(body=body, media_type="application/json").call_and_validate()
    assert response.status_code == 200


def test_the_description_names_this_servers_limits(app):
    document = app.test_client().get("/openapi.json").json
    assert document["openapi"].startswith("3.1")
    assert set(document["paths"]) == {rule.rule for rule in app.url_map.iter_rules()}
    images = document["paths"]["/predict/batch"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert images["properties"]["images"]["maxItems"] == 8
