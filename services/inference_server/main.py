"""The process: listens at once, loads the model, serves until SIGTERM, drains, ends."""

import importlib.metadata
import logging
import platform
import signal
import sys
import threading
from typing import Any, Final

from services.contract.settings import InferenceServerSettings
from services.inference_server import artefacts, decode, model
from services.inference_server.app import create_app
from services.inference_server.batcher import Engine
from services.inference_server.server import HttpServer
from services.inference_server.state import ServerState

log = logging.getLogger("inference_server")

_VERSIONS_OF: Final = ("tensorflow-cpu", "tensorflow", "keras", "numpy", "flask", "waitress", "pillow", "simplejpeg")


def describe(settings: InferenceServerSettings) -> dict[str, Any]:
    """What /info says before the model is loaded."""
    return {
        "model": model.NAME,
        **decode.describe(),
        "batching": {
            "max": settings.batch_max,
            "wait_ms": settings.batch_wait_ms,
            "turnaround_ms": settings.turnaround_ms,
            "queue_max": settings.queue_max,
        },
        "limits": {"max_image_bytes": settings.max_image_bytes, "max_image_pixels": settings.max_image_pixels},
        "versions": {"python": platform.python_version(), **_versions()},
    }


def _versions() -> dict[str, str]:
    found = {}
    for name in _VERSIONS_OF:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # one of tensorflow and tensorflow-cpu is always missing
    return found


def load(state: ServerState) -> Engine:
    """Make the engine and fill in what /info says of it."""
    engine, facts = model.build_engine(state.settings)
    state.info.update(facts)
    state.metrics.engine.info({"form": facts["engine"]["form"], "library": facts["engine"]["library"]})
    return engine


def serve(settings: InferenceServerSettings) -> int:
    """Run the server until SIGTERM or SIGINT (exit status 0) or until its engine dies (1)."""
    state = ServerState(settings, info=describe(settings))
    wake = threading.Event()

    def stop(*_: object) -> None:
        state.draining.set()
        wake.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    http = HttpServer(create_app(state), settings, state.draining)
    state.batcher.start(lambda: load(state), state.warm.set, wake.set)
    log.info("listening on %s:%d", settings.inference_host, http.port)
    wake.wait()
    try:
        if not state.healthy:
            log.critical("the engine has stopped", exc_info=state.batcher.failure)
            http.drain(timeout_s=1.0)  # whoever waits is told
            return 1
        if state.warm.is_set():
            log.info("draining")
            http.drain(settings.drain_timeout_s)
            state.batcher.close()
        return 0
    finally:
        artefacts.stop_children()


def main() -> None:
    """Entry point of ``python -m services.inference_server``."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    sys.exit(serve(InferenceServerSettings()))
