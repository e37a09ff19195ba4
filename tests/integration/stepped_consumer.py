"""A DB consumer under which the wall clock is stepped on by 200 ms, two seconds after its start."""

import sys
import time

_read_ns, _began = time.time_ns, time.monotonic()


def _stepped_ns() -> int:
    return _read_ns() + (200_000_000 if time.monotonic() - _began > 2 else 0)


time.time_ns = _stepped_ns

from services.db_consumer.main import main  # noqa: E402 - the clock must be in place before anything reads it

sys.exit(main())
