"""The lease: a reservation of virtual machines in Blazar, written to disk before anything waits for it."""

import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import openstack
from blazarclient.client import Client
from blazarclient.exception import BlazarClientException

from latencylab import paths
from latencylab.backends.backend import BackendError

_API_DATE: Final = "%Y-%m-%d %H:%M"  # what Blazar takes, in UTC
_GONE: Final = ("TERMINATED", "DELETED")
_FILE: Final = "lease.json"
_CLOUDS: Final = paths.ROOT / "ansible" / "clouds.yaml"


class LeaseError(BackendError):
    """A lease that could not be made, kept or ended; the text says why and what to do."""


class LeaseRefusedError(LeaseError):
    """Blazar refused to make a lease (quota, no room, a name taken): there is nothing to end."""


@dataclass(frozen=True, slots=True)
class LeaseRequest:
    """What to reserve: `machines` servers of the flavor named `flavor` for `minutes`, under a name of one's own."""

    name: str
    flavor: str
    machines: int = 4
    minutes: int = 60

    def __post_init__(self) -> None:
        if self.machines < 1 or self.minutes < 1:
            raise ValueError(
                f"lease {self.name}: machines={self.machines}, minutes={self.minutes}; both must be 1 or more"
            )


@dataclass(frozen=True, slots=True)
class Lease:
    """A lease as Blazar reports it; times are UTC. `reserved_flavors` are the ids of the flavors that it pays for."""

    id: str
    name: str
    status: str
    start: datetime
    end: datetime
    machines: int
    reserved_flavors: tuple[str, ...]

    @classmethod
    def from_api(cls, body: dict[str, Any]) -> "Lease":
        reservations = [r for r in body.get("reservations", ()) if r.get("resource_type") == "flavor:instance"]
        return cls(
            id=body["id"],
            name=body["name"],
            status=body["status"],
            start=_utc(body["start_date"]),
            end=_utc(body["end_date"]),
            machines=sum(int(r.get("amount", 0)) for r in reservations),
            reserved_flavors=tuple(r["id"] for r in reservations),  # Blazar makes the flavor under the reservation's id
        )

    def left_s(self, now: datetime | None = None) -> float:
        """Seconds until the end, negative after it."""
        return (self.end - (now or utc_now())).total_seconds()

    def used_hours(self, now: datetime | None = None) -> float:
        """Hours that every machine of the lease has been reserved so far."""
        return max(0.0, (min(now or utc_now(), self.end) - self.start).total_seconds() / 3600)

    def describe(self, su_per_machine_hour: float, now: datetime | None = None) -> str:
        """One line for people: the end, the hours used and their price in service units."""
        hours = self.used_hours(now)
        return (
            f"lease {self.name} ({self.status}) ends {self.end:%Y-%m-%d %H:%M} UTC, in {self.left_s(now) / 60:.0f} min;"
            f" used {hours:.2f} h x {self.machines} machines = {hours * self.machines * su_per_machine_hour:.2f} SU"
        )

    def as_dict(self) -> dict[str, Any]:
        """JSON types, for Ansible and files."""
        return {**asdict(self), "start": self.start.isoformat(), "end": self.end.isoformat()}


def remembered_in(state: Path) -> dict[str, str] | None:
    """{"cloud", "name", "id"} of the lease last made there that may still be; no id: the answer was lost."""
    try:
        return json.loads((state / _FILE).read_text())
    except FileNotFoundError:
        return None


def utc_now() -> datetime:
    return datetime.now(UTC)


def _utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def connect(cloud: str) -> openstack.connection.Connection:
    """The connection that `cloud` of clouds.yaml names: that of ansible/, or where openstacksdk looks for one.

    Raises `LeaseError` when there is no such entry.
    """
    files = [str(_CLOUDS), *openstack.config.loader.CONFIG_FILES]
    try:
        region = openstack.config.OpenStackConfig(config_files=files).get_one(cloud=cloud)
        return openstack.connection.Connection(config=region)
    except openstack.exceptions.ConfigException as error:
        raise LeaseError(f"clouds.yaml: {error}; copy ansible/clouds.example.yaml and fill it in") from None


class LeaseDesk:
    """Makes, prolongs and ends leases; remembers the last one in a file of `state`.

    The file is written before the request (a name, in case the answer is lost), with the id before the wait, and
    removed once the lease is proven gone. So whatever kills this process, the next one knows what to end.
    """

    def __init__(
        self,
        connection: openstack.connection.Connection,
        state: Path,
        poll_s: float = 5.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._connection = connection
        self._file = state / _FILE
        self._poll_s = poll_s
        self._sleep = sleep
        config = connection.config
        self._api = Client(
            session=connection.session,
            service_type="reservation",
            region_name=config.get_region_name("reservation"),
            interface=config.get_interface("reservation"),
        ).lease

    def list(self) -> list[Lease]:
        """Leases that have not ended."""
        return [Lease.from_api(body) for body in self._api.list() if body["status"] not in _GONE]

    def get(self, lease_id: str) -> Lease:
        """The lease now; raises `LeaseError` when there is none."""
        try:
            return Lease.from_api(self._api.get(lease_id))
        except BlazarClientException as error:
            raise LeaseError(f"lease {lease_id}: {error}") from None

    def ensure(self, request: LeaseRequest, timeout_s: float = 300.0) -> tuple[Lease, bool]:
        """An active lease of that name, and whether it was made now; one that is there already is used.

        A lease that doesn't become active within `timeout_s`, or whose wait is broken by anything (Ctrl-C too), is
        ended before the exception leaves. Raises `LeaseError`.
        """
        found = self._named(request.name)
        try:
            lease = found or self._create(request)
            self._remember(lease.name, lease.id)
            return self._wait_active(lease.id, timeout_s), found is None
        except LeaseRefusedError:
            raise
        except BaseException:  # also when the answer to the request was lost: hence by name
            if made := self._named(request.name):
                self.end(made.id)
            else:
                self._forget("")
            raise

    def _named(self, name: str) -> Lease | None:
        return next((lease for lease in self.list() if lease.name == name), None)

    def _create(self, request: LeaseRequest) -> Lease:
        try:
            flavor = self._connection.compute.find_flavor(request.flavor, ignore_missing=False)
        except openstack.exceptions.NotFoundException:
            names = ", ".join(sorted(f.name for f in self._connection.compute.flavors()))
            raise LeaseError(f"there is no flavor {request.flavor}; the project has {names}") from None
        reservation = {
            "resource_type": "flavor:instance",
            "flavor_id": flavor.id,
            "amount": request.machines,
            "affinity": "None",
        }
        end = _ceil_minute(utc_now() + timedelta(minutes=request.minutes)).strftime(_API_DATE)
        self._remember(request.name, "")
        try:
            body = self._api.create(request.name, "now", end, [reservation], [])
        except BlazarClientException as error:
            problem = f"Blazar did not make the lease {request.name} ({request.machines} x {request.flavor}): {error}"
            if 400 <= error.kwargs["code"] < 500:
                self._forget("")
                raise LeaseRefusedError(problem) from None
            raise LeaseError(problem) from None
        return Lease.from_api(body)

    def _wait_active(self, lease_id: str, timeout_s: float) -> Lease:
        deadline = time.monotonic() + timeout_s
        while (lease := self.get(lease_id)).status != "ACTIVE":
            if lease.status == "ERROR":
                raise LeaseError(f"lease {lease.name} is in ERROR: Blazar could not start it; try a smaller flavor")
            if time.monotonic() > deadline:
                raise LeaseError(f"lease {lease.name} is still {lease.status} after {timeout_s:.0f} s")
            self._sleep(self._poll_s)
        return lease

    def prolong(self, lease_id: str, until: datetime) -> Lease:
        """Move the end to `until`, rounded up to a minute and never earlier; raises `LeaseError` when refused."""
        until = _ceil_minute(until)
        lease = self.get(lease_id)
        if lease.end >= until:
            return lease
        try:
            return Lease.from_api(self._api.update(lease_id, end_date=until.strftime(_API_DATE)))
        except BlazarClientException as error:
            raise LeaseError(f"lease {lease.name} can't be prolonged to {until:%H:%M} UTC: {error}") from None

    def end(self, lease_id: str, timeout_s: float = 120.0) -> None:
        """Delete the lease and wait until it is gone; one that isn't there is fine. Raises `LeaseError`."""
        deadline = time.monotonic() + timeout_s
        while True:
            answer = "it is still listed"
            try:
                self._api.delete(lease_id)
            except BlazarClientException as error:
                if error.kwargs["code"] == 404:
                    break
                answer = str(error)
            if lease_id not in {lease.id for lease in self.list()}:
                break
            if time.monotonic() > deadline:
                raise LeaseError(f"lease {lease_id} can't be deleted ({answer}); delete it in Horizon")
            self._sleep(self._poll_s)
        self._forget(lease_id)

    def _forget(self, lease_id: str) -> None:
        remembered = remembered_in(self._file.parent)
        if remembered and remembered["id"] in ("", lease_id):
            self._file.unlink()

    def _remember(self, name: str, lease_id: str) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        new = self._file.with_suffix(".new")
        with new.open("w") as file:
            json.dump({"cloud": self._connection.config.name, "name": name, "id": lease_id}, file)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._file)


def _ceil_minute(when: datetime) -> datetime:
    return datetime.fromtimestamp(math.ceil(when.timestamp() / 60) * 60, UTC)
