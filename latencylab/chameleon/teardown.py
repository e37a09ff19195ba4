"""Find everything of a name prefix in the project and remove it, in the order in which one thing holds another."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import openstack
from openstack.connection import Connection

from latencylab.chameleon.lease import LeaseDesk, LeaseError

ORDER: Final = (
    "floating IP",
    "server",
    "router",
    "port",
    "subnet",
    "network",
    "security group",
    "key pair",
    "lease",
)
"""What is removed first to last: floating IPs, servers, networks with what is in them, the lease that paid for them."""


class TeardownError(RuntimeError):
    """Something is left; the text lists it."""


@dataclass(frozen=True, slots=True)
class Found:
    """One thing of the prefix; `kind` is one of `ORDER`."""

    kind: str
    id: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name} ({self.id})"


def belongs(name: str | None, prefix: str) -> bool:
    """Whether a name is the prefix or continues it after a dash: ``lab`` takes ``lab-vm1``, not ``laboratory``."""
    return name is not None and (name == prefix or name.startswith(f"{prefix}-"))


class Teardown:
    """Removes what belongs to `prefix`; can be run again at any time and by any process."""

    def __init__(self, connection: Connection, desk: LeaseDesk, prefix: str, poll_s: float = 3.0) -> None:
        if not prefix:
            raise ValueError("the prefix is empty: everything in the project would belong to it")
        self._cloud = connection
        self._desk = desk
        self._prefix = prefix
        self._poll_s = poll_s
        self._remove: dict[str, Callable[[str], object]] = {
            "floating IP": connection.network.delete_ip,
            "server": connection.compute.delete_server,
            "router": self._remove_router,
            "port": connection.network.delete_port,
            "subnet": connection.network.delete_subnet,
            "network": connection.network.delete_network,
            "security group": connection.network.delete_security_group,
            "key pair": connection.compute.delete_keypair,
            "lease": desk.end,
        }

    def find(self) -> list[Found]:
        """What is there, in the order in which it is to go."""
        found = list(self._find())
        return sorted(found, key=lambda thing: (ORDER.index(thing.kind), thing.name))

    def _find(self) -> Iterator[Found]:
        network, compute, prefix = self._cloud.network, self._cloud.compute, self._prefix
        ours = [n for n in network.networks() if belongs(n.name, prefix)]
        ports = {p.id: p for n in ours for p in network.ports(network_id=n.id)}
        for ip in network.ips():
            # a floating IP has no name: ours are those on our ports, and those that say so in their description
            if ip.port_id in ports or belongs((ip.description or "").split(":")[0], prefix):
                yield Found("floating IP", ip.id, ip.floating_ip_address)
        yield from (Found("server", s.id, s.name) for s in compute.servers() if belongs(s.name, prefix))
        yield from (Found("router", r.id, r.name) for r in network.routers() if belongs(r.name, prefix))
        for port in ports.values():
            # the network's own ports go with the router and the subnet
            if not (port.device_owner or "").startswith("network:"):
                yield Found("port", port.id, port.name or port.device_owner or "unnamed")
        yield from (Found("subnet", s.id, s.name) for n in ours for s in network.subnets(network_id=n.id))
        yield from (Found("network", n.id, n.name) for n in ours)
        yield from (Found("security group", g.id, g.name) for g in network.security_groups() if belongs(g.name, prefix))
        yield from (Found("key pair", k.name, k.name) for k in compute.keypairs() if belongs(k.name, prefix))
        yield from (Found("lease", x.id, x.name) for x in self._desk.list() if belongs(x.name, prefix))

    def run(self, timeout_s: float = 300.0, report: Callable[[str], object] = lambda line: None) -> list[Found]:
        """Remove everything; return what was removed.

        What is refused (something else still holds it) is tried again until nothing has gone for `timeout_s`.
        Raises `TeardownError` that lists what is left.
        """
        deadline = time.monotonic() + timeout_s
        fewest: int | None = None
        removed: dict[str, Found] = {}
        refusals: dict[str, str] = {}
        while left := self.find():
            if fewest is None or len(left) < fewest:
                fewest, deadline = len(left), time.monotonic() + timeout_s
            if time.monotonic() > deadline:
                lines = [f"{thing}: {refusals.get(thing.id, 'still listed')}" for thing in left]
                raise TeardownError(f"nothing has gone for {timeout_s:.0f} s; left:\n" + "\n".join(lines))
            # one kind at a time: the next waits until the one before is proven gone
            for thing in (t for t in left if t.kind == left[0].kind):
                if thing.id not in removed:
                    report(f"removing {thing}")
                removed[thing.id] = thing
                try:
                    self._remove[thing.kind](thing.id)
                except (openstack.exceptions.SDKException, LeaseError) as error:
                    refusals[thing.id] = str(error)
            if any(thing in left for thing in self.find()):
                time.sleep(self._poll_s)
        return list(removed.values())

    def _remove_router(self, router_id: str) -> None:
        network = self._cloud.network
        for port in network.ports(device_id=router_id):
            if port.device_owner == "network:router_interface":
                network.remove_interface_from_router(
                    router_id, None, port.id
                )  # by port; the keyword differs by version
        network.delete_router(router_id)
