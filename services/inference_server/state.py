"""What the handlers of one server share."""

import threading
from dataclasses import dataclass, field
from typing import Any

from services.contract.settings import InferenceServerSettings
from services.inference_server.batcher import Batcher
from services.inference_server.errors import ApiError
from services.inference_server.metrics import Metrics
from services.inference_server.turnaround import Turnaround


@dataclass
class ServerState:
    """Settings, queue and metrics of a server, and how far it is in its life: loading, warm, draining."""

    settings: InferenceServerSettings
    metrics: Metrics = field(default_factory=Metrics)
    info: dict[str, Any] = field(default_factory=dict)
    warm: threading.Event = field(default_factory=threading.Event)
    draining: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        wait_s = self.settings.batch_wait_ms / 1e3
        turnaround = Turnaround(self.settings.turnaround_ms / 1e3)
        self.batcher = Batcher(self.settings.batch_max, self.settings.queue_max, self.metrics, wait_s, turnaround)
        self.metrics.queued.set_function(lambda: self.batcher.places_taken)

    @property
    def healthy(self) -> bool:
        """Whether the engine lives; false means that the process is about to end."""
        return self.batcher.failure is None

    @property
    def ready(self) -> bool:
        """Whether new work is welcome."""
        return self.healthy and self.warm.is_set() and not self.draining.is_set()

    def check_warm(self) -> None:
        """Raise `ApiError` 503 while the model is still loading. A draining server still answers who reaches it."""
        if self.healthy and not self.warm.is_set():
            raise ApiError(503, "not_ready", "the model is still loading; ask /readyz", retry_after_s=1.0)
