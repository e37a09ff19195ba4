"""A measurement in a thread of its own, which another thread can interrupt."""

import ctypes
import io
import threading
import time
from functools import partial

from tqdm.std import tqdm

from latencylab import measurement
from latencylab.backends.backend import Backend, Progress, open_backend
from latencylab.request import Request
from latencylab.runs import Run


class _Lines(io.StringIO):
    """A progress bar written here is told in words."""

    def __init__(self, tell: Progress) -> None:
        super().__init__()
        self._tell = tell

    def write(self, text: str) -> int:
        if line := text.strip():
            self._tell(line)
        return len(text)


class BackgroundRun(threading.Thread):
    """One repetition, measured on the stack that is up or on one of its own.

    `backend` is there once it is up, `phase` says what is being waited for. When the thread has ended, either
    `measured` is the run or `failure` says why there is none.
    """

    def __init__(self, request: Request) -> None:
        super().__init__(name="measurement", daemon=True)
        self.request = request
        self.phase = "starting"
        self.measured: Run | None = None
        self.failure: BaseException | None = None
        self.backend: Backend | None = None
        self._lock = threading.Lock()
        self._interruptible = False
        self._interrupted = False

    def run(self) -> None:
        try:
            with self._lock:
                if self._interrupted:
                    raise KeyboardInterrupt
                self._interruptible = True
            with open_backend(self.request.experiment, self._tell) as self.backend:
                bar = partial(tqdm, file=_Lines(self._tell))
                self.measured = measurement.measure(self.request, self.backend, self._tell, bar)
                self._shield()
        except BaseException as error:
            if self.measured is None:
                self.failure = error

    def _tell(self, text: str) -> None:
        self.phase = text

    def _shield(self) -> None:
        """From here on an interruption comes too late; one that is on its way arrives in here."""
        with self._lock:
            self._interruptible = False
        time.sleep(0)

    def interrupt(self) -> None:
        """End the run as Ctrl-C does: `KeyboardInterrupt` is raised in it, which stops what it started and leaves no
        folder. Once is enough, and a run that is complete stays."""
        with self._lock:
            self._interrupted = True
            if self._interruptible:
                self._interruptible = False
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(self.ident or 0), ctypes.py_object(KeyboardInterrupt)
                )
