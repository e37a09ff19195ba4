"""The kernel that executes the notebooks of a sweep: started once, since its imports cost more than a short run."""

from typing import Any, Final, Self

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import AsyncKernelManager
from jupyter_core.utils import run_sync
from zmq.asyncio import Context

from latencylab import paths

ARGUMENTS: Final = ("--log-level=ERROR",)
"""To each kernel: its warnings would tear the progress bars apart."""

_PRELOAD: Final = (
    "from latencylab.backends import forkserver; forkserver.ForkServer.shared(); from latencylab import session"
)
_PRELOAD_TIMEOUT_S: Final = 120.0
_RESET: Final = "get_ipython().reset(new_session=True)"
_RESET_TIMEOUT_S: Final = 30.0


class SweepKernel(AsyncKernelManager):
    """A kernel manager that outlives the notebook it executes; every notebook begins in an empty namespace."""

    _last: Any = None

    @classmethod
    def start(cls) -> Self:
        """A kernel that has imported what the notebooks import. Raises `RuntimeError` when it does not come up."""
        kernel = cls(kernel_name="python3", context=Context())  # one of its own would end with the first kernel
        run_sync(kernel.start_kernel)(cwd=str(paths.ROOT), extra_arguments=list(ARGUMENTS))
        client = kernel._blocking_client()
        try:
            client.wait_for_ready(timeout=_PRELOAD_TIMEOUT_S)
            client.execute_interactive(_PRELOAD, store_history=False, timeout=_PRELOAD_TIMEOUT_S)
        except BaseException:
            kernel.end()
            raise
        finally:
            client.stop_channels()
        return kernel

    def _blocking_client(self) -> BlockingKernelClient:
        client = BlockingKernelClient(parent=self)
        client.load_connection_info(self.get_connection_info())
        client.start_channels()
        return client

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
        client = self._blocking_client()
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
