"""The kernel that executes the notebooks of a sweep: started once, since its imports cost more than a short run."""

from typing import Any, Final

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import AsyncKernelManager
from jupyter_core.utils import run_sync

_RESET: Final = "get_ipython().reset(new_session=True)"
_RESET_TIMEOUT_S: Final = 30.0


class SweepKernel(AsyncKernelManager):
    """A kernel manager that outlives the notebook it executes; every notebook begins in an empty namespace."""

    _last: Any = None

    def client(self, **options: Any) -> Any:
        """A client for the next notebook; the last one's sockets are closed."""
        if self._last is not None:
            self._last.stop_channels()
        self._last = super().client(**options)
        return self._last

    def clear(self) -> None:
        """Empty the namespace, or end the kernel when it does not answer: the next notebook then starts another."""
        if not self.has_kernel:
            return
        client = BlockingKernelClient()
        client.load_connection_info(self.get_connection_info())
        client.start_channels()
        try:
            client.execute_interactive(_RESET, store_history=False, timeout=_RESET_TIMEOUT_S)
        except Exception:
            self.end()
        finally:
            client.stop_channels()

    def end(self) -> None:
        """Kill the kernel, whatever it is doing."""
        if self._last is not None:
            self._last.stop_channels()
            self._last = None
        if self.has_kernel:
            run_sync(self.shutdown_kernel)(now=True)
