"""What Prometheus learns of the server. Every app has a registry of its own, so that tests can have many."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, PlatformCollector, ProcessCollector

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 10.0)


class Metrics:
    """Histograms in seconds or images, gauges in images, counters in images."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self.queue_s = Histogram(
            "inference_queue_seconds", "Time an image waits for its batch", registry=registry, buckets=_SECONDS
        )
        self.decode_s = Histogram(
            "inference_decode_seconds", "Decoding and resizing one image", registry=registry, buckets=_SECONDS
        )
        self.forward_s = Histogram(
            "inference_forward_seconds", "One forward pass of a whole batch", registry=registry, buckets=_SECONDS
        )
        self.batch_images = Histogram(
            "inference_batch_images", "Images in a forward pass", registry=registry, buckets=(1, 2, 4, 8, 16, 32, 64)
        )
        self.in_flight = Gauge("inference_in_flight", "Images being handled", registry=registry)
        self.queued = Gauge("inference_queued", "Images that wait or are being decoded", registry=registry)
        self.predictions = Counter("inference_predictions", "Images labelled", registry=registry)
        self.rejected = Counter("inference_rejected", "Requests answered with an error", ["reason"], registry=registry)
        self.dropped = Counter(
            "inference_dropped", "Images dropped before their forward pass", ["reason"], registry=registry
        )
        self.engine = Info("inference_engine", "The form of the network that runs", registry=registry)
