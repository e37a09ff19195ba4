"""A lease that lives as long as a sweep: refused before if too short, prolonged meanwhile, left to end after."""

import logging
import threading
from datetime import datetime, timedelta
from types import TracebackType

from latencylab.chameleon.lease import Lease, LeaseDesk, LeaseError, utc_now

log = logging.getLogger(__name__)


class LeaseTooShortError(LeaseError):
    """A sweep that can't end before the lease does."""


def require_time(lease: Lease, needed_s: float, margin_s: float = 300.0, now: datetime | None = None) -> None:
    """Raise `LeaseTooShortError` unless the lease lasts `needed_s` and, to collect and take down, `margin_s` more."""
    left_s = lease.left_s(now)
    if left_s < needed_s + margin_s:
        short_min = -(-(needed_s + margin_s - left_s) // 60)
        raise LeaseTooShortError(
            f"the sweep needs {needed_s / 60:.0f} min and {margin_s / 60:.0f} min to collect, but lease {lease.name}"
            f" ends in {max(left_s, 0) / 60:.0f} min;"
            f" run: python -m latencylab.chameleon prolong --minutes {short_min:.0f}"
        )


class Heartbeat:
    """While entered, keeps the lease's end at least `ahead_s` away, but never beyond `limit`.

    `limit` (UTC) is what bounds the cost when the sweep hangs. A refusal is logged and kept in `problem`; it doesn't
    end the sweep, as the lease may well last.
    """

    def __init__(
        self, desk: LeaseDesk, lease_id: str, limit: datetime, ahead_s: float = 1800.0, every_s: float = 300.0
    ) -> None:
        self.problem: str | None = None
        self._desk = desk
        self._lease_id = lease_id
        self._limit = limit
        self._ahead = timedelta(seconds=ahead_s)
        self._every_s = every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lease-heartbeat", daemon=True)

    def beat(self) -> None:
        """Prolong once if the end is near; never raises for a refusal or an unreachable cloud."""
        try:
            self._desk.prolong(self._lease_id, min(utc_now() + self._ahead, self._limit))
            self.problem = None
        except Exception as error:  # the sweep goes on: only the lease's end is at stake, and the next beat tries again
            self.problem = str(error)
            log.warning("lease heartbeat: %s", error)

    def _run(self) -> None:
        while not self._stop.is_set():
            self.beat()
            self._stop.wait(self._every_s)

    def __enter__(self) -> "Heartbeat":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
