"""Our server at twice its capacity, and inside a memory budget."""

from benchmarks.inference.contenders import Running
from benchmarks.inference.load import closed_loop, open_loop, percentile

BUDGET_BYTES = 1_500_000_000
QUEUE_MAX = 16


def overload(server: Running, frames: list[bytes], capacity_hz: float, seconds: float) -> None:
    """Send at twice `capacity_hz`, whatever comes back, and print who was labelled, who refused, and how fast."""
    server.resume()
    result = open_loop(server.target, frames, 2 * capacity_hz, seconds)
    server.pause()
    bound_s = 2 * QUEUE_MAX / capacity_hz
    answered = len(result.labelled_s) + len(result.refused_s)
    print(f"\noverload: {2 * capacity_hz:.1f} images/s offered for {seconds:.0f} s, queue of {QUEUE_MAX}")
    print(
        f"  {result.offered} sent, {len(result.labelled_s)} labelled, {len(result.refused_s)} refused (503), "
        f"{len(result.others)} otherwise {result.others[:3] if result.others else ''}; "
        f"{'none' if answered == result.offered else result.offered - answered} lost"
    )
    p99_s = percentile(result.labelled_s, 99)
    print(f"  labelled: p50 {percentile(result.labelled_s, 50):.2f} s, p99 {p99_s:.2f} s, bound {bound_s:.2f} s")
    if result.refused_s:
        low, high = (percentile(result.refused_s, percent) * 1e3 for percent in (50, 99))
        print(f"  refused: p50 {low:.0f} ms, p99 {high:.0f} ms")


def budget(server: Running, frames: list[bytes], unbounded_hz: float, images: int) -> float:
    """Throughput at 8 clients of a server with a memory budget against that without; returns images/s."""
    server.resume()
    rate_hz = closed_loop(server.target, frames, 8, images, 20.0).images_per_s
    print(f"\nmemory budget {BUDGET_BYTES / 1e9:.1f} GB: {server.memory_bytes() / 1e9:.2f} GB in use at the end,")
    print(f"  {rate_hz:.1f} images/s with 8 clients, {rate_hz / unbounded_hz:.2f} of what it is without a budget")
    server.pause()
    return rate_hz
