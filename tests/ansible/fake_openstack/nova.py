"""Nova: flavors, key pairs and servers, which need a reserved flavor; and Glance's list of images."""

from typing import Any

import flask
from store import Store, Thing

_SHORT = ("id", "name", "links")


def _version(path: str, number: str, **more: str) -> Thing:
    url = f"{flask.request.host_url}{path}/"
    return {"id": number, "status": "CURRENT", "links": [{"rel": "self", "href": url}], **more}


def image_blueprint(store: Store) -> flask.Blueprint:
    glance = flask.Blueprint("image", __name__)

    @glance.get("/")
    def versions() -> dict[str, Any]:
        return {"versions": [_version("image/v2", "v2.9")]}

    @glance.get("/v2/images")
    def images() -> dict[str, Any]:
        return {"images": store.select("images", flask.request.args.to_dict())}

    @glance.get("/v2/images/<image_id>")
    def image(image_id: str) -> Thing:
        return store.get("images", image_id)

    return glance


def blueprint(store: Store) -> flask.Blueprint:
    nova = flask.Blueprint("compute", __name__)
    microversions = {"version": "2.90", "min_version": "2.1"}

    @nova.get("/")
    def versions() -> dict[str, Any]:
        return {"versions": [_version("compute/v2.1", "v2.1", **microversions)]}

    @nova.get("/v2.1/")
    def version() -> dict[str, Any]:
        return {"version": _version("compute/v2.1", "v2.1", **microversions)}

    @nova.get("/v2.1/flavors")
    @nova.get("/v2.1/flavors/detail")
    def flavors() -> dict[str, Any]:
        return {"flavors": list(store.of("flavors").values())}

    @nova.get("/v2.1/flavors/<flavor_id>")
    def flavor(flavor_id: str) -> dict[str, Any]:
        return {"flavor": store.get("flavors", flavor_id)}

    @nova.get("/v2.1/flavors/<flavor_id>/os-extra_specs")
    def extra_specs(flavor_id: str) -> dict[str, Any]:
        store.get("flavors", flavor_id)
        return {"extra_specs": {}}

    @nova.get("/v2.1/os-keypairs")
    def key_pairs() -> dict[str, Any]:
        return {"keypairs": [{"keypair": pair} for pair in store.of("keypairs").values()]}

    @nova.get("/v2.1/os-keypairs/<name>")
    def key_pair(name: str) -> dict[str, Any]:
        return {"keypair": store.get("keypairs", name)}

    @nova.post("/v2.1/os-keypairs")
    def add_key_pair() -> tuple[dict[str, Any], int]:
        pair = flask.request.get_json()["keypair"]
        if pair["name"] in store.of("keypairs"):
            flask.abort(409, f"Key pair '{pair['name']}' already exists.")
        return {"keypair": store.add("keypairs", {"fingerprint": "00", **pair, "id": pair["name"]})}, 201

    @nova.delete("/v2.1/os-keypairs/<name>")
    def delete_key_pair(name: str) -> tuple[str, int]:
        store.get("keypairs", name)
        del store.of("keypairs")[name]
        return "", 204

    nova.register_blueprint(_servers(store))
    return nova


def _servers(store: Store) -> flask.Blueprint:
    servers = flask.Blueprint("servers", __name__)

    @servers.get("/v2.1/servers")
    @servers.get("/v2.1/servers/detail")
    def index() -> dict[str, Any]:
        return {"servers": [_advance(server) for server in store.select("servers", flask.request.args.to_dict())]}

    @servers.get("/v2.1/servers/<server_id>")
    def show(server_id: str) -> dict[str, Any]:
        return {"server": _advance(store.get("servers", server_id))}

    def _advance(server: Thing) -> Thing:
        server["asked"] += 1
        if server["status"] == "BUILD" and server["asked"] > store.polls:
            server["status"], server["OS-EXT-STS:vm_state"] = "ACTIVE", "active"
        return server

    @servers.post("/v2.1/servers")
    def create() -> tuple[dict[str, Any], int]:
        asked = flask.request.get_json()["server"]
        flavor = store.get("flavors", asked["flavorRef"])
        if not flavor.get("reservation"):
            flask.abort(403, "Instances need a flavor reservation.")
        store.get("images", asked["imageRef"])
        store.get("keypairs", asked["key_name"])
        server = store.add(
            "servers",
            {
                "name": asked["name"],
                "status": "BUILD",
                "OS-EXT-STS:vm_state": "building",
                "OS-EXT-STS:task_state": None,
                "flavor": {"original_name": flavor["name"], "vcpus": flavor["vcpus"], "ram": flavor["ram"]},
                "image": {"id": asked["imageRef"]},
                "key_name": asked["key_name"],
                "metadata": asked.get("metadata", {}),
                "addresses": {},
                "asked": 0,
            },
        )
        for wanted in asked["networks"]:
            port = store.get("ports", wanted["port"])
            port.update(device_id=server["id"], device_owner="compute:nova")
            network = store.get("networks", port["network_id"])
            address = port["fixed_ips"][0]["ip_address"]
            fixed = {
                "addr": address,
                "version": 4,
                "OS-EXT-IPS:type": "fixed",
                "OS-EXT-IPS-MAC:mac_addr": port["mac_address"],
            }
            server["addresses"].setdefault(network["name"], []).append(fixed)
        return {"server": server}, 202

    @servers.delete("/v2.1/servers/<server_id>")
    def delete(server_id: str) -> tuple[str, int]:
        store.get("servers", server_id)
        for port in store.of("ports").values():
            if port.get("device_id") == server_id:
                port.update(device_id="", device_owner="")
        del store.of("servers")[server_id]
        return "", 204

    @servers.get("/v2.1/servers/<server_id>/os-security-groups")
    def groups(server_id: str) -> dict[str, Any]:
        ports = [p for p in store.of("ports").values() if p.get("device_id") == server_id]
        ids = {group for port in ports for group in port.get("security_groups", ())}
        return {"security_groups": [store.get("security_groups", group) for group in ids]}

    @servers.get("/v2.1/servers/<server_id>/os-volume_attachments")
    def volumes(server_id: str) -> dict[str, Any]:
        store.get("servers", server_id)
        return {"volumeAttachments": []}

    return servers
