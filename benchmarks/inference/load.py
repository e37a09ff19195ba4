"""Clients: a fixed number that each wait for their answer, or requests at a fixed rate whatever comes back."""

import base64
import http.client
import itertools
import json
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

_TIMEOUT_S: Final = 120

Encode = Callable[[bytes], tuple[bytes, str]]
"""From a JPEG to a request body and its media type."""


def raw(jpeg: bytes) -> tuple[bytes, str]:
    """The JPEG as it is."""
    return jpeg, "image/jpeg"


def base64_json(jpeg: bytes) -> tuple[bytes, str]:
    """``{"image": "<base64>"}``."""
    return json.dumps({"image": base64.b64encode(jpeg).decode()}).encode(), "application/json"


def base64_list(jpeg: bytes) -> tuple[bytes, str]:
    """``{"images": ["<base64>"]}``."""
    return json.dumps({"images": [base64.b64encode(jpeg).decode()]}).encode(), "application/json"


@dataclass(frozen=True)
class Target:
    """Where and how a server takes images; `keep_alive` says whether a client keeps its connection."""

    port: int
    encode: Encode = raw
    keep_alive: bool = True
    path: str = "/predict"


class Client:
    """One client of a server, with a connection of its own."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._connection: http.client.HTTPConnection | None = None

    def ask(self, jpeg: bytes) -> tuple[int, Any]:
        """Status and JSON answer."""
        body, media_type = self._target.encode(jpeg)
        status, text = self._send("POST", self._target.path, body, {"Content-Type": media_type})
        return status, json.loads(text)

    def get_text(self, path: str) -> str:
        """What the server says at `path`."""
        return self._send("GET", path, None, {})[1].decode()

    def get(self, path: str) -> Any:
        """What the server says at `path` in JSON."""
        return json.loads(self.get_text(path))

    def _send(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> tuple[int, bytes]:
        if self._connection is None:
            self._connection = http.client.HTTPConnection("127.0.0.1", self._target.port, timeout=_TIMEOUT_S)
        self._connection.request(method, path, body, headers)
        response = self._connection.getresponse()
        answer = response.read()
        if not self._target.keep_alive:
            self.close()
        return response.status, answer

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


@dataclass(frozen=True)
class Closed:
    """What a closed loop gave: images a second in the steady part, its latencies in seconds, and the number of all
    answers, those before and after it included."""

    images_per_s: float
    latencies_s: list[float]
    answered: int


def closed_loop(target: Target, frames: list[bytes], clients: int, images: int, limit_s: float) -> Closed:
    """`clients` clients ask until `images` have been answered after each client's first, or, once `limit_s` have
    passed, as many as there are clients.

    All until the last client has its first answer is warm-up, and what is still under way at the end does not count.
    Raises `RuntimeError` when an answer is not 200.
    """
    numbers, lock, done = itertools.count(), threading.Lock(), threading.Event()
    finished: list[tuple[float, float]] = []
    firsts: list[int] = []  # where in `finished` each client's first answer is
    failures: list[str] = []
    deadline = time.perf_counter() + limit_s

    def work() -> None:
        client, first = Client(target), True
        while not done.is_set():
            frame = frames[next(numbers) % len(frames)]
            began = time.perf_counter()
            status, answer = client.ask(frame)
            ended = time.perf_counter()
            with lock:
                if first:
                    firsts.append(len(finished))
                    first = False
                finished.append((ended, ended - began))
                if status != 200:
                    failures.append(f"{status} {answer}")
                wanted = min(images, clients) if ended > deadline else images
                if failures or (len(firsts) == clients and len(finished) > firsts[-1] + wanted):
                    done.set()
        client.close()

    with ThreadPoolExecutor(clients) as pool:
        for future in [pool.submit(work) for _ in range(clients)]:
            future.result()
    if failures:
        raise RuntimeError(f"the server answered {failures[0]}")
    steady = finished[firsts[-1] + 1 :][:images]
    span_s = steady[-1][0] - finished[firsts[-1]][0]
    return Closed(len(steady) / span_s, [latency for _, latency in steady], len(finished))


@dataclass(frozen=True)
class Sent:
    """One request of an open loop: when it was meant to be sent, in seconds after the start, its status (0: no answer)
    and the seconds from the intended time to the answer, so that a late client hides nothing.
    """

    offset_s: float
    status: int
    latency_s: float
    problem: str = ""


@dataclass(frozen=True)
class Open:
    """What an open loop gave: latencies in seconds of those labelled and of those refused, and anything else.

    `labelled_hz` is the rate of the labels from the first to the last of them; NaN when there are fewer than two.
    """

    offered: int
    labelled_hz: float
    labelled_s: list[float]
    refused_s: list[float]
    others: list[str]


def follow(target: Target, frames: list[bytes], offsets_s: Sequence[float]) -> list[Sent]:
    """Send at the times of a schedule, seconds after its start, whatever comes back."""
    local = threading.local()
    start = time.perf_counter() + 0.2

    def send(index: int) -> Sent:
        intended = start + offsets_s[index]
        time.sleep(max(intended - time.perf_counter(), 0))
        if not hasattr(local, "client"):
            local.client = Client(target)
        try:
            status, answer = local.client.ask(frames[index % len(frames)])
            problem = "" if status == 200 else f"{status} {answer}"
        except (OSError, ValueError, http.client.HTTPException) as error:
            status, problem = 0, repr(error)
            local.client.close()
        return Sent(offsets_s[index], status, time.perf_counter() - intended, problem)

    with ThreadPoolExecutor(min(len(offsets_s), 128)) as pool:
        return list(pool.map(send, range(len(offsets_s))))


def open_loop(target: Target, frames: list[bytes], rate_hz: float, seconds: float) -> Open:
    """Send at `rate_hz` for so many seconds, whatever comes back."""
    sent = follow(target, frames, [index / rate_hz for index in range(int(rate_hz * seconds))])
    done_s = sorted(one.offset_s + one.latency_s for one in sent if one.status == 200)
    return Open(
        len(sent),
        (len(done_s) - 1) / (done_s[-1] - done_s[0]) if len(done_s) > 1 else float("nan"),
        [one.latency_s for one in sent if one.status == 200],
        [one.latency_s for one in sent if one.status == 503],
        [one.problem for one in sent if one.status not in (200, 503)],
    )


def percentile(values: list[float], percent: int) -> float:
    """Percentile of raw samples; NaN when there are none."""
    if len(values) < 2:
        return values[0] if values else float("nan")
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]
