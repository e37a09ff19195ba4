"""Keystone: a token for the one application credential, and the catalog."""

from typing import Any

import flask

CREDENTIAL = ("fake-credential", "fake-secret")
REGION = "Fake"
PROJECT = {"id": "project", "name": "fake", "domain": {"id": "default", "name": "Default"}}


def blueprint() -> flask.Blueprint:
    keystone = flask.Blueprint("identity", __name__)

    @keystone.get("/")
    @keystone.get("/v3/")
    def version() -> dict[str, Any]:
        url = f"{flask.request.host_url}identity/v3/"
        return {"version": {"id": "v3.14", "status": "stable", "links": [{"rel": "self", "href": url}]}}

    @keystone.post("/v3/auth/tokens")
    def token() -> flask.Response:
        asked = flask.request.get_json()["auth"]["identity"].get("application_credential", {})
        if (asked.get("id"), asked.get("secret")) != CREDENTIAL:
            flask.abort(401, "The request you have made requires authentication.")
        root = flask.request.host_url
        urls = {
            "identity": f"{root}identity",
            "compute": f"{root}compute/v2.1",
            "network": f"{root}network",
            "image": f"{root}image",
            "reservation": f"{root}reservation/v1",
        }
        catalog = [
            {
                "id": kind,
                "type": kind,
                "name": kind,
                "endpoints": [{"id": kind, "interface": "public", "region": REGION, "region_id": REGION, "url": url}],
            }
            for kind, url in urls.items()
        ]
        body = {
            "methods": ["application_credential"],
            "user": {"id": "user", "name": "ann", "domain": PROJECT["domain"]},
            "project": PROJECT,
            "roles": [{"id": "member", "name": "member"}],
            "issued_at": "2026-01-01T00:00:00.000000Z",
            "expires_at": "2099-01-01T00:00:00.000000Z",
            "catalog": catalog,
        }
        answer = flask.jsonify({"token": body})
        answer.status_code = 201
        answer.headers["X-Subject-Token"] = "fake-token"
        return answer

    return keystone
