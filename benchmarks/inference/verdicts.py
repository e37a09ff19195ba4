"""What the race has to show. Ratios are medians of the rounds' own ratios, with the least and the most."""

import statistics
from collections.abc import Callable, Sequence
from typing import Final

from benchmarks.inference.contenders import NAIVE, OURS, PEERS, UNBATCHED
from benchmarks.inference.load import percentile
from benchmarks.inference.race import LIMIT, Results, Turn
from benchmarks.targets import Verdict, spread

BATCHING: Final = (8, 32)
"""Numbers of clients at which batches can fill."""

OF_LIMIT: Final = 0.92
TO_NAIVE: Final = {1: 2.0, 8: 1.5, 32: 2.0}
P99_TO_NAIVE: Final = 0.5
P99_CLIENTS: Final = 8


def _rate(turn: Turn) -> float:
    return turn.images_per_s


def _cpu_s(turn: Turn) -> float:
    return turn.cpu_s


def _p99_s(turn: Turn) -> float:
    return percentile(list(turn.latencies_s), 99)


class _Compared:
    """Ours against one other at a number of clients."""

    def __init__(self, results: Results, other: str, clients: int) -> None:
        self._ours, self._theirs = results[OURS.name, clients], results[other, clients]
        self._other, self._clients = other, clients

    def at_least(self, least: float, of: Callable[[Turn], float] = _rate, what: str = "images/s") -> Verdict:
        """Our median ratio in `what` is at least `least`."""
        ratios = self._ratios(of)
        target = f"{what} at {self._clients} client{'s' * (self._clients > 1)} at least {least:g} times {self._other}"
        return Verdict(target, f"{spread(ratios)} times", statistics.median(ratios) >= least)

    def ahead(self, of: Callable[[Turn], float], what: str, *, less: bool) -> Verdict:
        """We have more of `what`, or less of it."""
        ratios = self._ratios(of)
        middle = statistics.median(ratios)
        target = f"{what} at {self._clients} clients {'below' if less else 'above'} {self._other}"
        return Verdict(target, f"{spread(ratios)} times", middle < 1 if less else middle > 1)

    def p99(self, most: float) -> Verdict:
        """Our p99 is at most `most` times the other's: by round, since over all rounds a p99 is whose turn it was while
        the host was slowest."""
        ratios = self._ratios(_p99_s)
        share = f"at most {most:g} times" if most < 1 else "below"
        target = f"p99 at {self._clients} clients {share} {self._other}"
        return Verdict(target, f"{spread(ratios)} times", statistics.median(ratios) < most)

    def _ratios(self, of: Callable[[Turn], float]) -> list[float]:
        return [of(own) / of(other) for own, other in zip(self._ours, self._theirs, strict=True)]


def verdicts(results: Results, names: Sequence[str]) -> list[Verdict]:
    """Every target of the race at the numbers of clients that ran, against those of `names` that ran."""
    ran = {clients for _, clients in results}
    batching = [clients for clients in BATCHING if clients in ran]
    found = [_Compared(results, LIMIT, clients).at_least(OF_LIMIT) for clients in batching]
    if UNBATCHED.name in names:
        found += [_Compared(results, UNBATCHED.name, clients).at_least(1.0) for clients in batching]
    if NAIVE.name in names:
        least = {clients: ratio for clients, ratio in TO_NAIVE.items() if clients in ran}
        found += [_Compared(results, NAIVE.name, clients).at_least(ratio) for clients, ratio in least.items()]
        if P99_CLIENTS in ran:
            found.append(_Compared(results, NAIVE.name, P99_CLIENTS).p99(P99_TO_NAIVE))
    for peer in (peer.name for peer in PEERS if peer.name in names):
        for clients in batching:
            compared = _Compared(results, peer, clients)
            found.append(compared.ahead(_rate, "images/s", less=False))
            found.append(compared.ahead(_cpu_s, "CPU seconds per image", less=True))
        if P99_CLIENTS in ran:
            found.append(_Compared(results, peer, P99_CLIENTS).p99(1.0))
    return found
