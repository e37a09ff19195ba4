"""All contenders at each concurrency, in turn, several rounds; and the table of it."""

import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.inference.contenders import Running
from benchmarks.inference.limit import Limit, Work
from benchmarks.inference.load import closed_loop, percentile
from benchmarks.targets import quiet_bar

LIMIT: Final = "in-process limit"
ENGINE: Final = "engine, no decoding"
IN_PROCESS: Final[dict[str, Work]] = {LIMIT: "frames", ENGINE: "pixels"}


@dataclass(frozen=True)
class Turn:
    """One contender at one concurrency in one round. What runs in-process has no latencies."""

    images_per_s: float
    cpu_s: float
    latencies_s: Sequence[float] = ()


Results = dict[tuple[str, int], list[Turn]]


@dataclass(frozen=True)
class Size:
    """How much is measured: rounds and images per client count, and seconds after which a turn ends."""

    rounds: dict[int, int]
    images: dict[int, int]
    limit_s: float


# A host that is shared changes its speed within seconds, so what is close needs many short turns next to each other.
FULL: Final = Size({1: 3, 8: 25, 32: 15}, {1: 20, 8: 24, 32: 64}, 10.0)
QUICK: Final = Size({1: 1, 8: 1, 32: 1}, {1: 6, 8: 16, 32: 32}, 10.0)


def race(servers: Sequence[Running], limit: Limit, frames: list[bytes], size: Size, batch_max: int) -> Results:
    """Every server is paused but the one whose turn it is; the order changes from round to round. Ours is the first."""
    results: Results = defaultdict(list)
    named = {server.contender.name: server for server in servers}
    turns = sum(size.rounds.values()) * (len(servers) + len(IN_PROCESS))
    with quiet_bar(total=turns, unit="turn", desc="race", leave=False) as progress:
        for number in range(max(size.rounds.values())):
            for clients in (clients for clients, rounds in size.rounds.items() if number < rounds):
                images = size.images[clients]
                for name in _order([server.contender.name for server in servers], number):
                    if name in IN_PROCESS:
                        turn = Turn(*limit.measure(IN_PROCESS[name], min(clients, batch_max), images))
                    else:
                        turn = _turn(named[name], frames, clients, size)
                    results[name, clients].append(turn)
                    progress.update()
    return results


def _order(servers: Sequence[str], number: int) -> list[str]:
    """Whose turn it is after whom in a round: every round begins with another server, and the limit comes just before
    ours (the first of `servers`) or just after it, since these two are closest in speed."""
    shift = number % len(servers)
    order = [*servers[shift:], *servers[:shift]]
    ours, after = order.index(servers[0]), number % 2
    order[ours + after : ours + after] = IN_PROCESS if after else reversed(IN_PROCESS)
    return order


def _turn(server: Running, frames: list[bytes], clients: int, size: Size) -> Turn:
    server.resume()
    try:
        before = server.cpu_s()
        closed = closed_loop(server.target, frames, clients, size.images[clients], size.limit_s)
        spent = server.cpu_s() - before
        return Turn(closed.images_per_s, spent / closed.answered, closed.latencies_s)
    finally:
        server.pause()


def print_race(results: Results, names: Sequence[str]) -> None:
    """Medians over the rounds with the least and the most; the ratio is the median of the rounds' own ratios."""
    for clients in sorted({clients for _, clients in results}):
        print(f"\n{clients} client{'s' if clients > 1 else ''}")
        print(f"{'':<20}{'images/s':>9}{'least':>8}{'most':>8}{'ours is':>10}{'p50 ms':>9}{'p99 ms':>9}{'CPU ms':>8}")
        ours = results["ours", clients]
        for name in [*names, *IN_PROCESS]:
            turns = results[name, clients]
            rates = [turn.images_per_s for turn in turns]
            ratio = statistics.median(
                own.images_per_s / turn.images_per_s for own, turn in zip(ours, turns, strict=True)
            )
            pooled = [latency * 1e3 for turn in turns for latency in turn.latencies_s]
            latency = f"{percentile(pooled, 50):>9.0f}{percentile(pooled, 99):>9.0f}" if pooled else f"{'':>18}"
            cpu_ms = statistics.median(turn.cpu_s for turn in turns) * 1e3
            print(
                f"{name:<20}{statistics.median(rates):>9.1f}{min(rates):>8.1f}{max(rates):>8.1f}"
                f"{ratio:>8.2f} x{latency}{cpu_ms:>8.0f}"
            )
