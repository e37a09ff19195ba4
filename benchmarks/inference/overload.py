"""Our server at twice its capacity: who is labelled, who is refused, how fast, and whether every request is accounted
for once."""

from typing import Final

from benchmarks.inference.contenders import Running
from benchmarks.inference.load import open_loop, percentile
from benchmarks.targets import Verdict

QUEUE_MAX: Final = 16
AT_ONCE_S: Final = 0.1
"""A refusal that takes longer was not given at once."""


def overload(server: Running, frames: list[bytes], capacity_hz: float, seconds: float) -> list[Verdict]:
    """Send at twice `capacity_hz`, whatever comes back, and print what came."""
    server.resume()
    before = _counted(server)
    result = open_loop(server.target, frames, 2 * capacity_hz, seconds)
    predictions, refusals = (after - first for after, first in zip(_counted(server), before, strict=True))
    server.pause()
    labelled, refused = len(result.labelled_s), len(result.refused_s)
    lost = result.offered - labelled - refused
    service_s = 1 / result.labelled_hz  # while overloaded: what refusing costs, and what the host does then, is in both
    bound_s = 2 * QUEUE_MAX * service_s
    print(f"\noverload: {2 * capacity_hz:.1f} images/s offered for {seconds:.0f} s, queue of {QUEUE_MAX}")
    print(
        f"  {result.offered} sent, {labelled} labelled, {refused} refused (503), {len(result.others)} otherwise "
        f"{result.others[:3] or ''}; the server counts {predictions} labelled and {refusals} refused"
    )
    share = result.labelled_hz / capacity_hz
    print(f"  {result.labelled_hz:.1f} images/s labelled, {share:.2f} of the {capacity_hz:.1f} for 8 clients before")
    p50_s, p99_s = (percentile(result.labelled_s, percent) for percent in (50, 99))
    print(f"  labelled: p50 {p50_s:.2f} s, p99 {p99_s:.2f} s, bound {bound_s:.2f} s")
    once = lost == 0 and (predictions, refusals) == (labelled, refused)
    found = [
        Verdict(
            "at twice the capacity accepted requests keep a p99 under 2 x queue bound x service time "
            f"(2 x {QUEUE_MAX} x {service_s * 1e3:.0f} ms = {bound_s:.2f} s)",
            f"{p99_s:.2f} s",
            p99_s < bound_s,
        ),
        Verdict(
            "at twice the capacity no request is lost or answered twice",
            f"{lost} lost, {predictions - labelled + refusals - refused} answers more than requests",
            once,
        ),
    ]
    target = f"at twice the capacity the rest get 503 at once (p99 under {AT_ONCE_S * 1e3:.0f} ms)"
    if not refused:
        return [*found, Verdict(target, "nobody refused", False)]
    low_ms, high_ms = (percentile(result.refused_s, percent) * 1e3 for percent in (50, 99))
    print(f"  refused: p50 {low_ms:.0f} ms, p99 {high_ms:.0f} ms")
    return [*found, Verdict(target, f"p50 {low_ms:.0f} ms, p99 {high_ms:.0f} ms", high_ms < AT_ONCE_S * 1e3)]


def _counted(server: Running) -> tuple[int, int]:
    """Images labelled and requests refused since it started, by its own account."""
    labelled = server.metric("inference_predictions_total")
    refused = server.metric("inference_rejected_total", reason="queue_full")
    return int(labelled), int(refused)
