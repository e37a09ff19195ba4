"""The lease desk and the teardown in this process, with the real clients, against the fake cloud."""

import threading
import time
from datetime import UTC, datetime, timedelta

import openstack
import pytest

from latencylab.chameleon.during import lease_kept
from latencylab.chameleon.heartbeat import Heartbeat, LeaseTooShortError
from latencylab.chameleon.lease import (
    LeaseDesk,
    LeaseError,
    LeaseRefusedError,
    LeaseRequest,
    connect,
    remembered_in,
    utc_now,
)
from latencylab.chameleon.teardown import Teardown, TeardownError

REQUEST = LeaseRequest("lab-test-lease", "m1.xlarge", machines=4, minutes=60)


@pytest.fixture
def desk(cloud):
    return LeaseDesk(connect("fake"), cloud.state_folder, poll_s=0.01)


def test_a_lease_becomes_active_and_its_id_is_on_disk(cloud, desk):
    lease, made = desk.ensure(REQUEST)
    assert made
    assert lease.status == "ACTIVE"
    assert lease.machines == 4
    assert remembered_in(cloud.state_folder) == {"cloud": "fake", "name": REQUEST.name, "id": lease.id}
    assert 3500 < lease.left_s() <= 3660
    flavor = connect("fake").compute.get_flavor(lease.reserved_flavors[0])
    assert flavor.name == f"reservation:{lease.reserved_flavors[0]}"


def test_a_second_call_uses_the_same_lease(cloud, desk):
    first, _ = desk.ensure(REQUEST)
    second, made = desk.ensure(REQUEST)
    assert (second.id, made) == (first.id, False)


def test_the_id_is_on_disk_before_the_wait(cloud, desk):
    cloud.order(lease_status="PENDING")
    seen = []

    def sleep(seconds):
        seen.append(remembered_in(cloud.state_folder))
        raise KeyboardInterrupt

    waiting = LeaseDesk(connect("fake"), cloud.state_folder, sleep=sleep)
    with pytest.raises(KeyboardInterrupt):
        waiting.ensure(REQUEST)
    assert seen[0]["id"]
    assert cloud.left() == {}
    assert remembered_in(cloud.state_folder) is None


def test_a_wait_that_takes_too_long_ends_the_lease(cloud, desk):
    cloud.order(lease_status="PENDING")
    with pytest.raises(LeaseError, match="still PENDING after 0 s"):
        desk.ensure(REQUEST, timeout_s=0)
    assert cloud.left() == {}


def test_a_lease_in_error_is_ended(cloud, desk):
    cloud.order(lease_status="ERROR")
    with pytest.raises(LeaseError, match="is in ERROR"):
        desk.ensure(REQUEST)
    assert cloud.left() == {}


def test_a_failing_wait_ends_the_lease(cloud, desk):
    cloud.order(faults=[{"pattern": "GET /reservation/v1/leases/", "status": 500, "message": "oops"}])
    with pytest.raises(LeaseError, match="oops"):
        desk.ensure(REQUEST)
    assert cloud.left() == {}


@pytest.mark.parametrize(
    ("status", "message"),
    [(409, "Not enough hosts available"), (403, "Quota exceeded for instances"), (400, "bad dates")],
)
def test_a_refusal_says_what_blazar_said(cloud, desk, status, message):
    cloud.order(faults=[{"pattern": "POST /reservation", "status": status, "message": message}])
    with pytest.raises(LeaseRefusedError, match=message):
        desk.ensure(REQUEST)
    assert cloud.left() == {}
    assert remembered_in(cloud.state_folder) is None


def test_a_lost_answer_does_not_leak_the_lease(cloud, desk):
    cloud.order(faults=[{"pattern": "POST /reservation", "status": 502, "message": "lost", "after": True}])
    with pytest.raises(LeaseError, match="lost"):
        desk.ensure(REQUEST)
    assert "POST /reservation/v1/leases" in cloud.state()["journal"]
    assert cloud.left() == {}
    assert remembered_in(cloud.state_folder) is None


def test_an_unknown_flavor_names_those_there_are(cloud, desk):
    with pytest.raises(LeaseError, match=r"no flavor m9; the project has m1\.large, m1\.xlarge"):
        desk.ensure(LeaseRequest("lab-test-lease", "m9"))


def test_an_unknown_cloud_names_the_file(cloud):
    with pytest.raises(LeaseError, match=r"clouds\.yaml.*nowhere"):
        connect("nowhere")


def test_a_lease_is_prolonged_and_never_shortened(cloud, desk):
    lease, _ = desk.ensure(REQUEST)
    later = lease.end + timedelta(minutes=30)
    assert desk.prolong(lease.id, later).end == later
    assert desk.prolong(lease.id, lease.end).end == later


def test_a_refused_prolongation_is_an_error(cloud, desk):
    lease, _ = desk.ensure(REQUEST)
    cloud.order(faults=[{"pattern": "PUT /reservation", "status": 409, "message": "someone else has the host"}])
    with pytest.raises(LeaseError, match=r"can't be prolonged .* someone else"):
        desk.prolong(lease.id, lease.end + timedelta(hours=1))


def test_ending_twice_is_fine(cloud, desk):
    lease, _ = desk.ensure(REQUEST)
    desk.end(lease.id)
    desk.end(lease.id)
    assert cloud.left() == {}


def test_an_end_that_is_refused_at_first_is_tried_again(cloud, desk):
    lease, _ = desk.ensure(REQUEST)
    cloud.order(faults=[{"pattern": "DELETE /reservation", "status": 409, "message": "in transition", "times": 3}])
    desk.end(lease.id)
    assert cloud.left() == {}


def test_an_end_that_stays_refused_is_an_error_and_remembered(cloud, desk):
    lease, _ = desk.ensure(REQUEST)
    cloud.order(faults=[{"pattern": "DELETE /reservation", "status": 500, "message": "broken", "times": 10**6}])
    with pytest.raises(LeaseError, match=r"can't be deleted .*broken"):
        desk.end(lease.id, timeout_s=0.1)
    assert remembered_in(cloud.state_folder) == {"cloud": "fake", "name": REQUEST.name, "id": lease.id}


def test_a_heartbeat_keeps_the_end_away_but_not_beyond_the_limit(cloud, desk):
    lease, _ = desk.ensure(LeaseRequest("lab-test-lease", "m1.large", minutes=1))
    limit = utc_now().replace(second=0, microsecond=0) + timedelta(minutes=20)
    heartbeat = Heartbeat(desk, lease.id, limit, ahead_s=600, every_s=0.01)
    heartbeat.beat()
    assert 590 < desk.get(lease.id).left_s() <= 660
    far = Heartbeat(desk, lease.id, limit, ahead_s=7200)
    far.beat()
    assert desk.get(lease.id).end == limit


def test_a_heartbeat_beats_in_the_background_and_stops(cloud, desk):
    lease, _ = desk.ensure(LeaseRequest("lab-test-lease", "m1.large", minutes=1))
    with Heartbeat(desk, lease.id, utc_now() + timedelta(hours=2), ahead_s=1800, every_s=0.01):
        deadline = time.monotonic() + 30
        while desk.get(lease.id).left_s() < 1700 and time.monotonic() < deadline:
            time.sleep(0.01)
    assert desk.get(lease.id).left_s() > 1700
    assert "lease-heartbeat" not in {thread.name for thread in threading.enumerate()}


def test_a_heartbeat_survives_a_refusal_and_tells(cloud, desk):
    lease, _ = desk.ensure(LeaseRequest("lab-test-lease", "m1.large", minutes=1))
    cloud.order(faults=[{"pattern": "PUT /reservation", "status": 409, "message": "taken"}])
    heartbeat = Heartbeat(desk, lease.id, datetime(2099, 1, 1, tzinfo=UTC))
    heartbeat.beat()
    assert heartbeat.problem is not None
    assert "taken" in heartbeat.problem
    heartbeat.beat()
    assert heartbeat.problem is None


@pytest.fixture
def on_the_lease(cloud, desk, monkeypatch):
    """A lease of an hour under the cluster that KUBECONFIG names."""
    lease, _ = desk.ensure(REQUEST)
    monkeypatch.setenv("KUBECONFIG", str(cloud.state_folder / "kubeconfig"))
    return lease


def test_a_sweep_shows_the_lease_before_and_after_and_prolongs_it(cloud, desk, on_the_lease):
    said: list[str] = []
    with lease_kept(3000, said.append, cloud.state_folder):
        assert "lease-heartbeat" in {thread.name for thread in threading.enumerate()}
    assert len(said) == 2
    assert all("lease lab-test-lease (ACTIVE) ends" in line and "x 4 machines" in line for line in said)


def test_a_sweep_that_can_not_end_in_time_is_refused(cloud, desk, on_the_lease):
    with (
        pytest.raises(LeaseTooShortError, match=r"needs 60 min .* prolong --minutes [56]"),
        lease_kept(3600, print, cloud.state_folder),
    ):
        pytest.fail("the sweep began")


def test_a_sweep_elsewhere_has_nothing_to_do_with_the_lease(cloud, desk, on_the_lease, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", str(cloud.folder / "minikube"))
    with lease_kept(10**6, pytest.fail, cloud.state_folder):
        pass


def test_a_lease_that_has_ended_does_not_refuse(cloud, desk, on_the_lease):
    desk._api.delete(on_the_lease.id)
    said: list[str] = []
    with lease_kept(10**6, said.append, cloud.state_folder):
        pass
    assert said == ["lease lab-test-lease has ended"]


def furnish(desk: LeaseDesk) -> openstack.connection.Connection:
    """One of everything, as machines.yml would make it, and a neighbour's things that must stay."""
    connection = connect("fake")
    network = connection.network
    lease, _ = desk.ensure(REQUEST)
    net = network.create_network(name="lab-test-net")
    subnet = network.create_subnet(name="lab-test-subnet", network_id=net.id, cidr="10.64.0.0/24", ip_version=4)
    router = network.create_router(name="lab-test-router")
    network.add_interface_to_router(router.id, subnet.id)
    group = network.create_security_group(name="lab-test-group")
    connection.compute.create_keypair(name="lab-test-key", public_key="ssh-ed25519 AAAA")
    port = network.create_port(name="lab-test-vm1", network_id=net.id, security_groups=[group.id])
    image = next(connection.image.images())
    connection.compute.create_server(
        name="lab-test-vm1",
        flavor_id=lease.reserved_flavors[0],
        image_id=image.id,
        key_name="lab-test-key",
        networks=[{"port": port.id}],
    )
    public = next(network.networks(name="public"))
    network.create_ip(floating_network_id=public.id, port_id=port.id)
    network.create_ip(floating_network_id=public.id, description="lab-test: jump host")
    network.create_network(name="lab-testing-net")  # not ours: the prefix ends at a dash
    network.create_ip(floating_network_id=public.id, description="somebody's")
    return connection


NEIGHBOURS = {"networks": ["lab-testing-net"], "floatingips": ["somebody's"]}


def test_teardown_removes_everything_of_the_prefix_in_order(cloud, desk):
    work = Teardown(furnish(desk), desk, "lab-test", poll_s=0.01)
    kinds = [thing.kind for thing in work.find()]
    assert kinds == [
        *("floating IP", "floating IP", "server", "router", "port", "subnet", "network", "security group"),
        *("key pair", "lease"),
    ]
    before = len(cloud.state()["journal"])
    assert {thing.kind for thing in work.run()} == set(kinds)
    assert cloud.left() == NEIGHBOURS
    deleted = [line.split("/")[-2] for line in cloud.state()["journal"][before:] if line.startswith("DELETE")]
    assert deleted == [
        *("floatingips", "floatingips", "servers", "routers", "ports", "subnets", "networks", "security-groups"),
        *("os-keypairs", "leases"),
    ]


def test_a_second_teardown_finds_nothing(cloud, desk):
    work = Teardown(furnish(desk), desk, "lab-test", poll_s=0.01)
    work.run()
    before = cloud.state()["journal"]
    assert work.run() == []
    assert cloud.state()["journal"] == before


def test_teardown_tries_again_what_was_refused(cloud, desk):
    work = Teardown(furnish(desk), desk, "lab-test", poll_s=0.01)
    cloud.order(
        faults=[
            {"pattern": "DELETE /network/v2.0/networks", "status": 409, "message": "in use", "times": 2},
            {"pattern": "DELETE /compute/v2.1/servers", "status": 500, "message": "oops"},
        ]
    )
    work.run(timeout_s=30)
    assert cloud.left() == NEIGHBOURS


def test_teardown_that_can_not_finish_lists_what_is_left(cloud, desk):
    work = Teardown(furnish(desk), desk, "lab-test", poll_s=0.01)
    cloud.order(faults=[{"pattern": "DELETE .*/servers", "status": 409, "message": "locked", "times": 10**6}])
    with pytest.raises(TeardownError, match=r"server lab-test-vm1 .*locked"):
        work.run(timeout_s=0.2)
    assert cloud.left()["leases"] == ["lab-test-lease"], "the lease goes last"


def test_teardown_takes_a_lease_in_error(cloud, desk):
    cloud.order(lease_status="ERROR")
    connection = connect("fake")
    flavor = connection.compute.get_flavor("m1-large")
    reservation = {"resource_type": "flavor:instance", "flavor_id": flavor.id, "amount": 1}
    body = desk._api.create("lab-test-lease", "now", "2099-01-01 00:00", [reservation], [])
    for _ in range(2):
        desk.get(body["id"])
    assert desk.get(body["id"]).status == "ERROR"
    Teardown(connection, desk, "lab-test", poll_s=0.01).run()
    assert cloud.left() == {}


def test_an_empty_prefix_is_refused(cloud, desk):
    with pytest.raises(ValueError, match="prefix is empty"):
        Teardown(connect("fake"), desk, "")
