"""How many frames a second one producer process sustains, against a bare kafka-python loop over the same bytes.

``KAFKA_BOOTSTRAP=host:port python -m benchmarks.producer`` measures both in turn, each time in a fresh process and into
a new topic of its own, from the first send to the last acknowledgement. A second part runs the producer at 50 frames/s
and gives the p99 of its lateness.
"""

import argparse
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from typing import Any, Final

from kafka import KafkaAdminClient

from benchmarks.targets import quiet_bar
from services.contract.broker import renew_topics
from services.contract.kafka import producer_config
from services.contract.settings import ProducerSettings, ReplicationSettings
from services.producer.images import make_pools
from services.producer.main import SignalStop, connect, make_schedule, run, take_priority

TOPICS: Final[dict[str, Any]] = {
    "kafka_topic": "benchmark.frames",
    "kafka_dead_topic": "benchmark.dead",
    "kafka_control_topic": "benchmark.control",
}
TARGET_FRAMES_PER_S: Final = 400
TARGET_LATENESS_MS: Final = 5
PUNCTUAL_RATE_HZ: Final = 50.0
_CAMERAS: Final = 8


def settings_for(bootstrap: str, frames: int) -> ProducerSettings:
    """Cameras whose whole schedule lies in the past, so that they send as fast as they can; 640x480 JPEG of 40 KB."""
    return ProducerSettings(
        **TOPICS,
        kafka_bootstrap=bootstrap,
        run_id=f"benchmark-{time.time_ns()}",
        status_host="127.0.0.1",
        status_port=0,
        cameras=_CAMERAS,
        rate_hz=frames / _CAMERAS,
        duration_s=1.0,
        pool_frames=16,
        start_at_ns=0,
        buffer_bytes=2**40,
    )


def produce(settings: ProducerSettings) -> dict[str, Any]:
    """The report of one producer run. Raises `RuntimeError` when a frame was not acknowledged."""
    report = run(settings, make_schedule(settings), SignalStop())
    if report["unsent"]:
        raise RuntimeError(f"{report['unsent']} frames unsent: {report['reasons']}")
    return report


def producer_rate(settings: ProducerSettings) -> float:
    """Frames/s of the producer."""
    report = produce(settings)
    return report["sent"] / (report["ended_ns"] - report["started_ns"]) * 1e9


def bare_rate(settings: ProducerSettings) -> float:
    """Frames/s of a bare loop with the same client settings, pictures, keys and priority: no schedule, no stamps."""
    pools = make_pools(settings, make_schedule(settings), range(_CAMERAS))
    messages = [(pool.device.encode(), frame.head + frame.tail) for pool in pools for frame in pool.frames]
    count = int(settings.rate_hz * settings.duration_s) * _CAMERAS
    take_priority()
    with closing(connect(producer_config(settings), settings)) as client:
        began_s = time.perf_counter()
        futures = []
        for number in range(count):
            key, value = messages[number % len(messages)]
            futures.append(client.send(settings.kafka_topic, value=value, key=key))
        for future in futures:
            future.get(timeout=settings.delivery_timeout_s)
        return count / (time.perf_counter() - began_s)


def p99_lateness_ms(settings: ProducerSettings) -> float:
    """p99 of sent minus intended, in ms, of one camera at `PUNCTUAL_RATE_HZ` for 6 s."""
    changes = {"cameras": 1, "rate_hz": PUNCTUAL_RATE_HZ, "duration_s": 6.0, "start_at_ns": time.time_ns() + 5 * 10**9}
    return float(produce(settings.model_copy(update=changes))["lateness_ns"]["p99"]) / 1e6


def measure(bootstrap: str, frames: int, repetitions: int) -> dict[Callable[[ProducerSettings], float], list[float]]:
    """`repetitions` results of each of the three measurements, taken in turn so that drift hits all alike."""
    results: dict[Callable[[ProducerSettings], float], list[float]] = {
        producer_rate: [],
        bare_rate: [],
        p99_lateness_ms: [],
    }
    topics = ReplicationSettings(**TOPICS, kafka_bootstrap=bootstrap)
    spawn = multiprocessing.get_context("spawn")
    try:
        with quiet_bar(total=repetitions * len(results), desc="producer", unit="run") as progress:
            for _ in range(repetitions):
                for measurement, values in results.items():
                    renew_topics(topics)
                    with ProcessPoolExecutor(max_workers=1, mp_context=spawn) as fresh:
                        values.append(fresh.submit(measurement, settings_for(bootstrap, frames)).result())
                    progress.update()
    finally:
        with closing(KafkaAdminClient(bootstrap_servers=bootstrap.split(","))) as admin:
            admin.delete_topics(sorted(set(TOPICS.values()) & set(admin.list_topics())))
    return results


def spread(values: Sequence[float], digits: int) -> str:
    """``median (least to greatest)``."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def frame_bytes(settings: ProducerSettings) -> float:
    """Mean size of the pictures."""
    pools = make_pools(settings, make_schedule(settings), range(_CAMERAS))
    return statistics.fmean(len(pool.frame(seq, 0)[0]) for pool in pools for seq in range(len(pool.frames)))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.producer", description=__doc__)
    parser.add_argument("--frames", type=int, default=4000, help=f"frames in a run, a multiple of {_CAMERAS}")
    parser.add_argument("--repetitions", type=int, default=5)
    args = parser.parse_args()
    bootstrap = os.environ.get("KAFKA_BOOTSTRAP")
    if not bootstrap:
        parser.error("KAFKA_BOOTSTRAP must name a broker, such as localhost:9092; `latencylab up` starts one")
    results = measure(bootstrap, args.frames, args.repetitions)
    rates, bare = results[producer_rate], results[bare_rate]
    size_kb = frame_bytes(settings_for(bootstrap, args.frames)) / 1e3
    print(
        f"one producer process, {args.repetitions} repetitions of {args.frames} frames of {size_kb:.1f} KB: "
        "median (least to greatest)"
    )
    print(f"  services.producer        {spread(rates, 0)} frames/s; target at least {TARGET_FRAMES_PER_S}")
    print(f"  bare kafka-python loop   {spread(bare, 0)} frames/s")
    print(f"  ratio                    {spread([own / base for own, base in zip(rates, bare, strict=True)], 2)}")
    lateness = spread(results[p99_lateness_ms], 2)
    print(f"  p99 lateness at {PUNCTUAL_RATE_HZ:.0f}/s    {lateness} ms; target under {TARGET_LATENESS_MS}")


if __name__ == "__main__":
    main()
