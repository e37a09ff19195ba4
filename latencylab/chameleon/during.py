"""What a sweep has to do with a lease: refused if it can't end in time, else the lease is kept alive meanwhile."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Final

from latencylab import paths

STATE: Final = paths.ROOT / "ansible" / ".state"
"""Where the playbooks keep the lease file, the inventory and the kubeconfig of machines on a lease."""

_ROOM_S: Final = 1800.0
"""How much longer than planned a sweep may take before its lease is no longer prolonged."""


@contextmanager
def lease_kept(needed_s: float, echo: Callable[[str], object], state: Path = STATE) -> Iterator[None]:
    """While entered, the lease under the cluster in use is kept alive; tells its end and the hours used, also after.

    Does nothing when ``KUBECONFIG`` names another cluster than that of `state`, or its lease has ended. Raises
    `LeaseTooShortError` when a sweep of `needed_s` can't end before the lease, `LeaseError` when that can't be told.
    """
    kubeconfig = Path(os.environ.get("KUBECONFIG", ""))
    if not (state / "lease.json").is_file() or kubeconfig.resolve() != (state / "kubeconfig").resolve():
        yield
        return
    # only here: the cloud's client libraries are an extra that a sweep elsewhere doesn't need
    from latencylab.chameleon.heartbeat import Heartbeat, require_time
    from latencylab.chameleon.lease import LeaseDesk, connect, remembered_in, utc_now

    known = remembered_in(state) or {}
    desk = LeaseDesk(connect(known["cloud"]), state)
    lease = next((found for found in desk.list() if found.name == known["name"]), None)
    if lease is None:
        echo(f"lease {known['name']} has ended")
        yield
        return
    price = float(os.environ.get("LATENCYLAB_SU_PER_MACHINE_HOUR", "1"))
    echo(lease.describe(price))
    require_time(lease, needed_s)
    limit = utc_now() + timedelta(seconds=2 * needed_s + _ROOM_S)
    with Heartbeat(desk, lease.id, limit) as heartbeat:
        yield
    if heartbeat.problem:
        echo(f"the lease could not be prolonged: {heartbeat.problem}")
    echo(desk.get(lease.id).describe(price))
