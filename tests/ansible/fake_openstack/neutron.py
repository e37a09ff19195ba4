"""Neutron: networks, subnets, ports, routers, security groups and floating IPs, with its refusals (409) in between."""

import copy
import ipaddress
from typing import Any

import flask
from store import Store, Thing

_SINGULAR = {
    "networks": "network",
    "subnets": "subnet",
    "ports": "port",
    "routers": "router",
    "security-groups": "security_group",
    "security-group-rules": "security_group_rule",
    "floatingips": "floatingip",
}
_DEFAULTS: dict[str, Thing] = {
    "networks": {"subnets": [], "router:external": False, "shared": False, "admin_state_up": True, "status": "ACTIVE"},
    "subnets": {"ip_version": 4, "enable_dhcp": True, "dns_nameservers": [], "host_routes": [], "allocation_pools": []},
    "ports": {"device_id": "", "device_owner": "", "security_groups": [], "status": "ACTIVE", "admin_state_up": True},
    "routers": {"external_gateway_info": None, "admin_state_up": True, "status": "ACTIVE", "routes": []},
    "security-groups": {"security_group_rules": [], "stateful": True, "description": ""},
    "security-group-rules": {
        "protocol": None,
        "port_range_min": None,
        "port_range_max": None,
        "remote_ip_prefix": None,
        "remote_group_id": None,
        "ethertype": "IPv4",
        "description": "",
    },
    "floatingips": {"port_id": None, "fixed_ip_address": None, "description": "", "status": "ACTIVE"},
}


class Neutron:
    """The rules of each kind of thing; `app` is the HTTP around them."""

    def __init__(self, store: Store) -> None:
        self.store = store

    @staticmethod
    def collection(plural: str) -> str:
        return plural.replace("-", "_")

    def create(self, plural: str, asked: Thing) -> Thing:
        name = {} if plural == "floatingips" else {"name": ""}
        thing = {**name, "project_id": "project", "tags": [], **copy.deepcopy(_DEFAULTS[plural]), **asked}
        self.store.add(self.collection(plural), thing)
        made = getattr(self, f"_made_{self.collection(plural)}", None)
        if made:
            made(thing)
        return thing

    def _made_subnets(self, subnet: Thing) -> None:
        self.store.get("networks", subnet["network_id"])["subnets"].append(subnet["id"])
        subnet.setdefault("gateway_ip", str(ipaddress.ip_network(subnet["cidr"])[1]))

    def _made_ports(self, port: Thing) -> None:
        network = self.store.get("networks", port["network_id"])
        used = {ip["ip_address"] for other in self.store.of("ports").values() for ip in other.get("fixed_ips", ())}
        port["mac_address"] = f"fa:16:3e:00:00:{len(used):02x}"
        wanted = port.get("fixed_ips") or [{"subnet_id": subnet} for subnet in network["subnets"][:1]]
        for ip in wanted:
            if "ip_address" not in ip:
                hosts = ipaddress.ip_network(self.store.get("subnets", ip["subnet_id"])["cidr"]).hosts()
                next(hosts)  # the gateway's
                ip["ip_address"] = next(str(host) for host in hosts if str(host) not in used)
        port["fixed_ips"] = wanted

    def _made_security_groups(self, group: Thing) -> None:
        for ethertype in ("IPv4", "IPv6"):
            rule = {"security_group_id": group["id"], "direction": "egress", "ethertype": ethertype}
            self.create("security-group-rules", rule)

    def _made_security_group_rules(self, rule: Thing) -> None:
        self.store.get("security_groups", rule["security_group_id"])["security_group_rules"].append(rule)

    def _made_floatingips(self, ip: Thing) -> None:
        taken = len(self.store.of("floatingips"))
        ip["floating_ip_address"] = f"203.0.113.{taken + 9}"
        if ip["port_id"]:
            ip["fixed_ip_address"] = self.store.get("ports", ip["port_id"])["fixed_ips"][0]["ip_address"]

    def delete(self, plural: str, thing_id: str) -> None:
        collection = self.collection(plural)
        thing = self.store.get(collection, thing_id)
        if holder := self._holder(collection, thing_id):
            flask.abort(409, f"{_SINGULAR[plural]} {thing_id} is in use by {holder}")
        del self.store.of(collection)[thing_id]
        if collection == "subnets":
            self.store.get("networks", thing["network_id"])["subnets"].remove(thing_id)
        if collection == "security_group_rules":
            self.store.get("security_groups", thing["security_group_id"])["security_group_rules"].remove(thing)

    def _holder(self, collection: str, thing_id: str) -> str | None:
        """What keeps a thing from going, or None."""
        for port in self.store.of("ports").values():
            holds = {
                "networks": port["network_id"] == thing_id,
                "subnets": any(ip["subnet_id"] == thing_id for ip in port["fixed_ips"]),
                "routers": port["device_id"] == thing_id,
                "security_groups": thing_id in port["security_groups"],
                "ports": port["id"] == thing_id and port["device_owner"].startswith("network:"),
            }
            if holds.get(collection):
                return f"port {port['id']}"
        return None

    def add_interface(self, router_id: str, asked: Thing) -> Thing:
        self.store.get("routers", router_id)
        subnet = self.store.get("subnets", asked["subnet_id"])
        port = self.create(
            "ports",
            {
                "network_id": subnet["network_id"],
                "fixed_ips": [{"subnet_id": subnet["id"], "ip_address": subnet["gateway_ip"]}],
                "device_id": router_id,
                "device_owner": "network:router_interface",
            },
        )
        return {"id": router_id, "port_id": port["id"], "subnet_id": subnet["id"]}

    def remove_interface(self, router_id: str, asked: Thing) -> Thing:
        port = self.store.get("ports", asked["port_id"])
        if port["device_id"] != router_id:
            flask.abort(404, f"router {router_id} has no interface {port['id']}")
        del self.store.of("ports")[port["id"]]
        return {"id": router_id, "port_id": port["id"]}


def blueprint(store: Store) -> flask.Blueprint:
    network = flask.Blueprint("network", __name__)
    neutron = Neutron(store)
    known = ",".join(f'"{plural}"' for plural in _SINGULAR)

    @network.get("/")
    def versions() -> dict[str, Any]:
        url = f"{flask.request.host_url}network/v2.0/"
        return {"versions": [{"id": "v2.0", "status": "CURRENT", "links": [{"rel": "self", "href": url}]}]}

    @network.get("/v2.0/")
    def resources() -> dict[str, Any]:
        return {"resources": []}

    @network.get("/v2.0/extensions")
    def extensions() -> dict[str, Any]:
        return {"extensions": []}

    @network.get(f"/v2.0/<any({known}):plural>")
    def index(plural: str) -> dict[str, Any]:
        things = store.select(neutron.collection(plural), flask.request.args.to_dict())
        return {neutron.collection(plural): things}

    @network.post(f"/v2.0/<any({known}):plural>")
    def create(plural: str) -> tuple[dict[str, Any], int]:
        kind, kinds = _SINGULAR[plural], neutron.collection(plural)
        asked = flask.request.get_json()
        if kinds in asked:
            return {kinds: [neutron.create(plural, one) for one in asked[kinds]]}, 201
        return {kind: neutron.create(plural, asked[kind])}, 201

    @network.get(f"/v2.0/<any({known}):plural>/<thing_id>")
    def show(plural: str, thing_id: str) -> dict[str, Any]:
        return {_SINGULAR[plural]: store.get(neutron.collection(plural), thing_id)}

    @network.put(f"/v2.0/<any({known}):plural>/<thing_id>")
    def update(plural: str, thing_id: str) -> dict[str, Any]:
        kind = _SINGULAR[plural]
        thing = store.get(neutron.collection(plural), thing_id)
        thing.update(flask.request.get_json()[kind])
        return {kind: thing}

    @network.delete(f"/v2.0/<any({known}):plural>/<thing_id>")
    def delete(plural: str, thing_id: str) -> tuple[str, int]:
        neutron.delete(plural, thing_id)
        return "", 204

    @network.put("/v2.0/routers/<router_id>/add_router_interface")
    def add_interface(router_id: str) -> Thing:
        return neutron.add_interface(router_id, flask.request.get_json())

    @network.put("/v2.0/routers/<router_id>/remove_router_interface")
    def remove_interface(router_id: str) -> Thing:
        return neutron.remove_interface(router_id, flask.request.get_json())

    return network
