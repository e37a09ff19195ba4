"""The small HTTP server beside each worker: /healthz (the process), /readyz (its work) and /metrics (Prometheus)."""

import threading
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import make_wsgi_app

from services.contract.settings import StatusSettings


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Probes come every second; their lines would bury the service's own."""


class _ThreadingServer(ThreadingMixIn, WSGIServer):
    daemon_threads = True


_POLL_S: Final = 0.1  # how soon it notices that it is to close


class StatusServer:
    """Serves probes and metrics from a daemon thread; ``ready`` and ``healthy`` are asked at each request."""

    def __init__(
        self, settings: StatusSettings, ready: Callable[[], bool], healthy: Callable[[], bool] = lambda: True
    ) -> None:
        metrics = make_wsgi_app()

        def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
            path = environ.get("PATH_INFO")
            if path == "/metrics":
                return metrics(environ, start_response)
            checks = {"/healthz": healthy, "/readyz": ready}
            if path not in checks:
                start_response("404 Not Found", [("Content-Type", "text/plain")])
                return [b"not found\n"]
            passed = checks[path]()
            status = "200 OK" if passed else "503 Service Unavailable"
            start_response(status, [("Content-Type", "text/plain")])
            return [b"ok\n" if passed else b"not yet\n"]

        self._server = make_server(
            settings.status_host,
            settings.status_port,
            app,
            server_class=_ThreadingServer,
            handler_class=_QuietHandler,
        )
        self.port: int = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(_POLL_S,), name="status", daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
