"""One image per request (``/predict``) or several (``/predict/batch``), with the same number of images in flight.

The consumer asks for those together that came to it together.

Requests are built before they are timed, which favours those of several images: theirs take longer to build. The
latency is an image's: those of one request are answered together.
"""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from urllib3 import encode_multipart_formdata

from benchmarks.inference.contenders import Running
from benchmarks.inference.load import Closed, Target, closed_loop, percentile
from benchmarks.targets import Verdict, quiet_bar, spread
from latencylab.backends.backend import IMAGES_PER_REQUEST

SIZES: Final = (1, 2, IMAGES_PER_REQUEST, 8)
IN_FLIGHT: Final = (8, 32)
NO_WORSE: Final = 0.95
"""Times the images/s of one per request: what is nearer to 1 can't be told from the host's own changes."""

_BOUNDARY: Final = "an-image"


def _target(port: int, size: int) -> Target:
    if size == 1:
        return Target(port)
    return Target(port, lambda body: (body, f"multipart/form-data; boundary={_BOUNDARY}"), path="/predict/batch")


def _bodies(frames: Sequence[bytes], size: int) -> list[bytes]:
    """A request's body for every frame, with those that follow it."""
    if size == 1:
        return list(frames)
    endless = [*frames, *frames]
    return [_body(endless[first : first + size]) for first in range(len(frames))]


def _body(jpegs: Sequence[bytes]) -> bytes:
    parts = [("image", (f"{number}.jpg", jpeg, "image/jpeg")) for number, jpeg in enumerate(jpegs)]
    return encode_multipart_formdata(parts, _BOUNDARY)[0]


@dataclass(frozen=True)
class Bundled:
    """One turn: images a second, an image's median latency in seconds, processor seconds per image."""

    images_per_s: float
    p50_s: float
    cpu_s: float


Turns = dict[int, list[Bundled]]
"""By images per request, one of each round."""


def compare(server: Running, frames: Sequence[bytes], rounds: dict[int, int], images: dict[int, int]) -> list[Verdict]:
    """Each number of images per request in turn, with as many images in flight; print it."""
    bodies = {size: _bodies(frames, size) for size in SIZES}
    found = []
    for in_flight in (number for number in IN_FLIGHT if number in rounds):
        turns: Turns = {size: [] for size in SIZES}
        server.resume()
        for number in quiet_bar(range(rounds[in_flight]), desc=f"{in_flight} in flight", leave=False):
            for size in (*SIZES[number % len(SIZES) :], *SIZES[: number % len(SIZES)]):
                target, before = _target(server.target.port, size), server.cpu_s()
                closed = closed_loop(target, bodies[size], in_flight // size, images[in_flight] // size, 20.0)
                turns[size].append(_bundled(closed, size, server.cpu_s() - before))
        server.pause()
        _print(in_flight, turns)
        found.append(_verdict(in_flight, turns))
    return found


def _bundled(closed: Closed, size: int, spent_s: float) -> Bundled:
    p50_s = percentile(list(closed.latencies_s), 50)
    return Bundled(closed.images_per_s * size, p50_s, spent_s / (closed.answered * size))


def _to_single(turns: Turns, size: int, of: Callable[[Bundled], float]) -> list[float]:
    """Each round's ratio to one image per request."""
    return [of(mine) / of(single) for mine, single in zip(turns[size], turns[1], strict=True)]


def _rate(turn: Bundled) -> float:
    return turn.images_per_s


def _print(in_flight: int, turns: Turns) -> None:
    print(f"\n{in_flight} images in flight, ratios to one per request in the same round")
    print(f"{'images per request':<20}{'images/s':>22}{'ratio':>20}{'p50 ratio':>20}{'CPU ratio':>20}")
    of = (_rate, lambda turn: turn.p50_s, lambda turn: turn.cpu_s)
    for size, own in turns.items():
        ratios = "".join(f"{spread(_to_single(turns, size, what)):>20}" for what in of)
        print(f"{size:<20}{spread([_rate(turn) for turn in own], 1):>22}{ratios}")


def _verdict(in_flight: int, turns: Turns) -> Verdict:
    size = IMAGES_PER_REQUEST
    target = f"images/s with {size} images a request, {in_flight} in flight, at least {NO_WORSE:g} times one's"
    rates = _to_single(turns, size, _rate)
    return Verdict(target, f"{spread(rates)} times", statistics.median(rates) >= NO_WORSE)
