"""How far apart the clocks of two hosts are, and how well that is known.

The samples are NTP's four timestamps (`services.contract.timesync`); the formulas are those of RFC 5905, section 8:
``offset = ((t2 - t1) + (t3 - t4)) / 2`` and ``delay = (t4 - t1) - (t3 - t2)``. Whatever way the delay is split between
the two directions, the true offset lies within ``offset ± delay / 2``.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

from services.contract.timesync import Sample


class ClockSampleError(ValueError):
    """Samples from which no offset follows; the text says why."""


@dataclass(frozen=True, slots=True)
class ClockOffset:
    """The responder's clock minus the asker's: the truth lies within ``offset_ns ± bound_ns``.

    A stamp of the responder's host, less `offset_ns`, is on the asker's time scale.
    """

    offset_ns: int
    bound_ns: int

    @property
    def low_ns(self) -> int:
        return self.offset_ns - self.bound_ns

    @property
    def high_ns(self) -> int:
        return self.offset_ns + self.bound_ns

    def reversed(self) -> "ClockOffset":
        """The same finding seen from the other host."""
        return ClockOffset(-self.offset_ns, self.bound_ns)

    def as_dict(self) -> dict[str, int]:
        """Plain numbers for run.json."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class PairOffset:
    """The clock of `responder` minus that of `asker`, two nodes named as the cluster names them."""

    asker: str
    responder: str
    offset: ClockOffset

    def as_dict(self) -> dict[str, str | int]:
        return {"asker": self.asker, "responder": self.responder, **self.offset.as_dict()}


def estimate(samples: Iterable[Sample]) -> ClockOffset:
    """The offset from the sample with the least delay, which bounds it best (the clock filter of RFC 5905, section 10).

    Raises `ClockSampleError` when there is no sample, or an impossible one: an answer before its request on a clock.
    """
    best: ClockOffset | None = None
    for t1, t2, t3, t4 in samples:
        delay_ns = (t4 - t1) - (t3 - t2)
        if t4 < t1 or t3 < t2 or delay_ns < 0:
            raise ClockSampleError(f"sample {(t1, t2, t3, t4)}: a clock was stepped during the exchange; measure again")
        # the interval is rounded outward, so that whole nanoseconds never exclude the truth
        offset_ns = ((t2 - t1) + (t3 - t4)) // 2
        bound_ns = delay_ns // 2 + 1
        if best is None or bound_ns < best.bound_ns:
            best = ClockOffset(offset_ns, bound_ns)
    if best is None:
        raise ClockSampleError("no sample: the responder answered nothing")
    return best


def through(first: ClockOffset, second: ClockOffset) -> ClockOffset:
    """A to C, given A to B and B to C; the bounds add up."""
    return ClockOffset(first.offset_ns + second.offset_ns, first.bound_ns + second.bound_ns)


def over_run(before: ClockOffset, after: ClockOffset) -> ClockOffset:
    """The offset at any time of a run, from what was measured before and after it.

    The narrowest interval that holds both: right as long as the offset moves from one to the other without an
    excursion, which is how clocks slewed by NTP move.
    """
    low = min(before.low_ns, after.low_ns)
    high = max(before.high_ns, after.high_ns)
    return ClockOffset((low + high) // 2, (high - low + 1) // 2)


def pairs_over_run(before: Iterable[PairOffset], after: Iterable[PairOffset]) -> list[PairOffset]:
    """`over_run` for each pair of nodes.

    Raises `ClockSampleError` that names the pairs which were measured only once: a node came or went during the run.
    """
    first = {(p.asker, p.responder): p.offset for p in before}
    last = {(p.asker, p.responder): p.offset for p in after}
    if alone := sorted(first.keys() ^ last.keys()):
        raise ClockSampleError(f"clock pairs measured before or after the run only: {alone}")
    return [PairOffset(*pair, over_run(first[pair], last[pair])) for pair in sorted(first)]


def uncertainty_ns(pairs: Iterable[PairOffset]) -> int:
    """How wrong a difference of two hosts' uncorrected stamps can be: the worst ``|offset| + bound``."""
    return max((abs(p.offset.offset_ns) + p.offset.bound_ns for p in pairs), default=0)


def unresolved_stages(
    stage_hosts: Mapping[str, tuple[str, str]], typical_ns: Mapping[str, int], pairs: Iterable[PairOffset]
) -> dict[str, int]:
    """The stages that the clocks are too far apart to tell: {stage: uncertainty in ns}.

    `stage_hosts` gives the nodes that made a stage's first and second stamp, `typical_ns` its median. A stage on one
    node is always resolved; one between nodes is unresolved when its median is smaller than what the clocks may add.
    Raises `KeyError` for a pair of nodes that was not measured.
    """
    known = {frozenset((p.asker, p.responder)): uncertainty_ns([p]) for p in pairs}
    doubtful = {}
    for stage, (first, second) in stage_hosts.items():
        if first == second:
            continue
        uncertainty = known[frozenset((first, second))]
        if abs(typical_ns[stage]) < uncertainty:
            doubtful[stage] = uncertainty
    return doubtful
