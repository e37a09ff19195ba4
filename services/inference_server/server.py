"""Waitress in a thread of its own, with a drain that loses no request."""

import json
import threading
import time
from typing import Final

import waitress.server
from flask import Flask
from waitress import wasyncore
from waitress.channel import HTTPChannel
from waitress.server import TcpWSGIServer
from waitress.task import ErrorTask, WSGITask

from services.contract.settings import InferenceServerSettings

_GRACE_S: Final = 0.5
_RECEIVE_BYTES: Final = 128 * 1024
"""A camera's frame in one read: waitress' 8 KiB cost a tenth more processor time per request."""
_POLL_S: Final = 0.02


class _JsonErrorTask(ErrorTask):
    """Waitress' own answers (malformed or oversized requests) in the form of all others."""

    def execute(self) -> None:
        error = self.request.error
        reason = error.reason.lower().replace(" ", "_")
        body = json.dumps({"reason": reason, "message": error.body}).encode()
        self.status = f"{error.code} {error.reason}"
        self.response_headers.append(("Content-Type", "application/json"))
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class _ClosingTask(WSGITask):
    """While the server drains, every answer is the last on its connection (which an application may not say itself)."""

    def build_response_header(self) -> bytes:
        if self.channel.server.draining.is_set():
            self.set_close_on_finish()
        return super().build_response_header()


class _Channel(HTTPChannel):
    task_class = _ClosingTask
    error_task_class = _JsonErrorTask


class HttpServer:
    """Serves `app` from threads until `drain`.

    There are enough handler threads that the batcher's bounded queue turns work away, not a queue of waitress' own
    that nobody sees.
    """

    def __init__(self, app: Flask, settings: InferenceServerSettings, draining: threading.Event) -> None:
        threads = settings.handler_threads or settings.queue_max + 2 * settings.batch_max + 8
        self._server: TcpWSGIServer = waitress.server.create_server(
            app,
            host=settings.inference_host,
            port=settings.inference_port,
            threads=threads,
            connection_limit=1000,
            backlog=1024,
            recv_bytes=_RECEIVE_BYTES,
            channel_request_lookahead=1,  # keeps reading while a request runs, which is how a gone client shows
            max_request_body_size=settings.max_request_bytes,
            ident="inference_server",
        )
        self._server.channel_class = _Channel
        self._server.draining = draining
        self.port = int(self._server.effective_port)
        self._thread = threading.Thread(target=self._server.run, name="http", daemon=True)
        self._thread.start()

    def drain(self, timeout_s: float) -> None:
        """Answer what has arrived, stop listening, and return once all is answered or `timeout_s` has passed.

        For a moment connections are still taken, so that a request on its way when the signal came is answered.
        """
        deadline = time.monotonic() + timeout_s
        time.sleep(min(_GRACE_S, timeout_s))
        self._server.trigger.pull_trigger(lambda: wasyncore.dispatcher.close(self._server))
        while self._busy() and time.monotonic() < deadline:
            time.sleep(_POLL_S)

    def _busy(self) -> bool:
        return any(
            channel.requests or channel.request or channel.total_outbufs_len for channel in _channels(self._server)
        )


def _channels(server: TcpWSGIServer) -> list[HTTPChannel]:
    while True:
        try:
            return list(server.active_channels.values())
        except RuntimeError:  # the loop's thread changed the dictionary
            continue
