"""A DB consumer under which the wall clock is stepped on by 200 ms, a second after it has read it."""

import sys
import threading
import time

from services.contract.clock import Clock
from services.db_consumer.main import main

_read_ns, _make_clock = time.time_ns, Clock.__init__


def _step() -> None:
    time.time_ns = lambda: _read_ns() + 200_000_000


def _make_clock_then_step(clock: Clock) -> None:
    _make_clock(clock)
    threading.Timer(1.0, _step).start()


Clock.__init__ = _make_clock_then_step  # type: ignore
sys.exit(main())
