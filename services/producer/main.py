"""One process of cameras: draw the pictures, wait at the start line, send on schedule, report in one line of JSON."""

import contextlib
import gc
import json
import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any, Final

import kafka
from kafka import KafkaProducer
from kafka.errors import KafkaError, KafkaTimeoutError
from pydantic import ValidationError
from pydantic_settings import CliApp

from services.contract.broker import wait_for_start
from services.contract.clock import Clock
from services.contract.kafka import producer_config
from services.contract.settings import ProducerSettings
from services.contract.status import StatusServer
from services.producer.images import ImageSourceError, Pool, make_pools
from services.producer.ledger import Ledger
from services.producer.loop import OpenLoop, Stop
from services.producer.priority import give_way, take_priority
from services.producer.schedule import Schedule, TraceError, device_id, device_index, frames_of_devices, read_trace

log = logging.getLogger("producer")

# How long the Kafka client's thread may keep a due frame from the interpreter. Python's own 5 ms would be late by the
# run's rule; this costs about a fifth of the highest rate.
_SWITCH_INTERVAL_S: Final = 0.0005


class StoppedEarlyError(BaseException):
    """A signal came before the start; no library's ``except Exception`` may swallow it."""


class SignalStop(Stop):
    """A stop that SIGTERM and SIGINT request; while `raising`, they also break off whatever runs."""

    def __init__(self) -> None:
        self._raises = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        if self._raises:
            self._raises = False  # a second signal must not break off the report
            raise StoppedEarlyError

    @contextlib.contextmanager
    def raising(self) -> Iterator[None]:
        """Within, a stop raises `StoppedEarlyError`; at once if it came before."""
        self._raises = True
        try:
            if self.requested:
                raise StoppedEarlyError
            yield
        finally:
            self._raises = False


def main(arguments: Sequence[str] = ()) -> int:
    """Run one producer; settings come from the environment. Returns the exit code: 0 done, 1 failed, 2 bad settings."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    logging.getLogger("kafka").setLevel(logging.WARNING)
    logging.getLogger("kafka.cluster").setLevel(logging.CRITICAL)  # repeats ten times a second that a topic is missing
    try:
        settings = CliApp.run(ProducerSettings, cli_args=list(arguments))
        schedule = make_schedule(settings)
        stop = SignalStop()
        print(json.dumps(run(settings, schedule, stop)), flush=True)
    except ValidationError as error:
        for problem in error.errors():
            name = ".".join(str(part) for part in problem["loc"]).upper()
            log.error("%s", f"{name}: {problem['msg']}" if name else problem["msg"])
        return 2
    except (TraceError, ImageSourceError, ValueError) as error:
        log.error("%s", error)
        return 2
    except (KafkaError, TimeoutError) as error:
        log.error("Kafka at KAFKA_BOOTSTRAP: %s: %s", type(error).__name__, error)
        return 1
    except OSError as error:
        log.error("the probes on STATUS_HOST and STATUS_PORT, or a file: %s", error)
        return 1
    return 0


def make_schedule(settings: ProducerSettings) -> Schedule:
    """The schedule that the settings describe. Raises `TraceError` or `ValueError`."""
    trace = read_trace(settings.trace_file) if settings.arrivals == "trace" and settings.trace_file else ()
    return Schedule(settings.arrivals, settings.rate_hz, settings.duration_s, settings.seed, trace)


def connect(config: dict[str, Any], settings: ProducerSettings) -> KafkaProducer:
    """A Kafka client that knows the topic's partitions, so that no send has to wait for them.

    Raises `KafkaError`, or `TimeoutError` when the topic does not appear within `start_timeout_s`.
    """
    client = KafkaProducer(**config)
    deadline_s = time.monotonic() + settings.start_timeout_s
    while time.monotonic() < deadline_s:
        with contextlib.suppress(KafkaTimeoutError):
            client.partitions_for(settings.kafka_topic)
            client.config["max_block_ms"] = 0  # from here on a send that would have to wait fails at once
            return client
    raise TimeoutError(f"no topic {settings.kafka_topic}; `python -m services.contract.broker renew-topics` makes it")


def run(
    settings: ProducerSettings,
    schedule: Schedule,
    stop: SignalStop,
    connect: Callable[[dict[str, Any], ProducerSettings], Any] = connect,
) -> dict[str, Any]:
    """Send this process's share of the run over the client that `connect` makes, and return the report.

    Raises `KafkaError`, `TimeoutError` (no topic or no start time) or `ImageSourceError`.
    """
    devices = [device_index(settings.producer_index, settings.cameras, camera) for camera in range(settings.cameras)]
    clock = Clock()
    at_start_line = threading.Event()
    config = producer_config(settings)
    client: KafkaProducer | None = None
    start_at_ns: int | None = None
    scheduling = "default"
    with contextlib.closing(StatusServer(settings, ready=at_start_line.is_set)) as status:
        try:
            with stop.raising():
                pools = dict(zip(devices, make_pools(settings, schedule, devices), strict=True))
                if settings.priority == "real-time":
                    scheduling = take_priority()
                client = connect(config, settings)
                at_start_line.set()
                log.info("%d cameras ready; probes on port %d", len(devices), status.port)
                start_at_ns = settings.start_at_ns
                if start_at_ns is None:
                    start_at_ns = wait_for_start(settings, settings.run_id, settings.start_timeout_s)
        except StoppedEarlyError:
            log.warning("stopped before the start")
        ledger = Ledger(frames_of_devices(schedule, devices, start_at_ns or 0), clock)
        started_ns = clock.now_ns()
        if client is not None and start_at_ns is not None:
            log.info("%d frames from %+.3f s on", len(ledger.frames.seq), (start_at_ns - started_ns) / 1e9)
            send_all(OpenLoop(settings, client, clock, stop), ledger, pools)
        if settings.priority == "real-time":
            give_way()
        report = {
            "run_id": settings.run_id,
            "producer_index": settings.producer_index,
            "devices": [device_id(index) for index in devices],
            **ledger.report(stop.requested),
            "start_at_ns": start_at_ns,
            "started_ns": started_ns,
            "ended_ns": clock.now_ns(),
            "drift_ns": clock.drift_ns(),
            "client": {"library": f"kafka-python {kafka.__version__}", "buffer_bytes": settings.buffer_bytes, **config},
            "scheduling": scheduling,
            "interrupted": stop.requested,
        }
        close(client, patient=not ledger.outstanding)
    return report


def send_all(loop: OpenLoop, ledger: Ledger, pools: dict[int, Pool]) -> None:
    """Run the loop to its end with the interpreter set up for punctuality, then wait for the acknowledgements."""
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    gc.collect()
    gc.freeze()  # the pools must not be walked by each collection while frames are due
    try:
        loop.run(ledger, pools)
        loop.drain(ledger)
    finally:
        gc.unfreeze()
        sys.setswitchinterval(interval_s)


def close(client: KafkaProducer | None, patient: bool) -> None:
    """Close the client; unless `patient`, give up at once what it still holds."""
    if client is not None:
        with contextlib.suppress(KafkaError):
            client.close(timeout=5 if patient else 0)
