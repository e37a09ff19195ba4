"""A cloud in memory: Keystone, Nova, Glance, Neutron and Blazar over HTTP, for clients that are the real ones.

``python tests/ansible/fake_openstack`` prints its port. ``GET /_state`` tells what it holds, ``POST /_orders`` sets
faults.
"""

import logging
from typing import Any

import blazar
import flask
import keystone
import neutron
import nova
from store import Fault, Store
from werkzeug.exceptions import HTTPException
from werkzeug.serving import make_server

_LEFT = ("floatingips", "servers", "routers", "ports", "subnets", "networks", "security_groups", "keypairs", "leases")
"""What a person would pay for or trip over; the public network and the default group are the cloud's own."""


def stocked() -> Store:
    """A cloud as a new user finds it."""
    store = Store()
    for name, vcpus, ram in (("m1.large", 4, 8192), ("m1.xlarge", 8, 16384)):
        store.add("flavors", {"id": name.replace(".", "-"), "name": name, "vcpus": vcpus, "ram": ram, "disk": 40})
    store.add(
        "images", {"name": "CC-Ubuntu22.04", "status": "active", "visibility": "public", "min_disk": 0, "min_ram": 0}
    )
    network = neutron.Neutron(store)
    public = network.create("networks", {"name": "public", "router:external": True, "cloud": True})
    network.create("subnets", {"name": "public", "network_id": public["id"], "cidr": "203.0.113.0/24", "cloud": True})
    network.create("security-groups", {"name": "default", "cloud": True})
    return store


def make_app(store: Store) -> flask.Flask:
    app = flask.Flask(__name__)
    app.url_map.strict_slashes = False
    app.register_blueprint(keystone.blueprint(), url_prefix="/identity")
    app.register_blueprint(nova.blueprint(store), url_prefix="/compute")
    app.register_blueprint(nova.image_blueprint(store), url_prefix="/image")
    app.register_blueprint(neutron.blueprint(store), url_prefix="/network")
    app.register_blueprint(blazar.blueprint(store), url_prefix="/reservation/v1")

    @app.get("/_state")
    def state() -> dict[str, Any]:
        left = {
            kind: names
            for kind in _LEFT
            if (names := [t.get("name", t.get("description")) for t in store.of(kind).values() if not t.get("cloud")])
        }
        return {"left": left, "journal": store.journal, "unknown": store.unknown, "store": store.collections}

    @app.post("/_orders")
    def orders() -> tuple[str, int]:
        asked = flask.request.get_json()
        store.faults = [Fault(**fault) for fault in asked.pop("faults", [])]
        for name, value in asked.items():
            setattr(store, name, value)
        return "", 204

    @app.before_request
    def before() -> None:
        if flask.request.path.startswith("/_"):
            return
        if fault := store.take_fault(f"{flask.request.method} {flask.request.path}", after=False):
            flask.abort(fault.status, fault.message)

    @app.after_request
    def after(answer: flask.Response) -> flask.Response:
        line = f"{flask.request.method} {flask.request.path}"
        if flask.request.path.startswith("/_"):
            return answer
        if flask.request.url_rule is None:
            store.unknown.append(line)
        elif flask.request.method != "GET" and answer.status_code < 400 and "/auth/" not in line:
            store.journal.append(line)
            if fault := store.take_fault(line, after=True):
                answer.status_code, answer.data = fault.status, fault.message.encode()
        return answer

    @app.errorhandler(HTTPException)
    def refused(error: HTTPException) -> tuple[dict[str, Any], int]:
        code = error.code or 500
        if flask.request.path.startswith("/reservation"):
            return {"error_code": code, "error_message": error.description}, code
        if flask.request.path.startswith("/network"):
            return {"NeutronError": {"type": type(error).__name__, "message": error.description, "detail": ""}}, code
        return {"error": {"code": code, "message": error.description}}, code

    return app


def main() -> None:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = make_server("127.0.0.1", 0, make_app(stocked()), threaded=False)
    print(server.port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
