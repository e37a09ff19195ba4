"""Where our server's processor time goes: into the network, or into HTTP, decoding and batching around it."""

import time
from typing import Final

from benchmarks.inference.contenders import Running
from benchmarks.inference.load import closed_loop

CLIENTS: Final = 32
_PASSES_S: Final = "inference_forward_seconds_sum"


def print_profile(server: Running, frames: list[bytes], images: int, engine_threads: int) -> None:
    """Load the server once more and print the processor time per image by kind of thread.

    The network runs in as many threads as the engine has, told from the others by being the busiest.
    """
    server.resume()
    before, passed_s, began_s = server.thread_cpu_s(), server.metric(_PASSES_S), time.perf_counter()
    closed = closed_loop(server.target, frames, CLIENTS, images, 20.0)
    wall_s, passed_s = time.perf_counter() - began_s, server.metric(_PASSES_S) - passed_s
    after = server.thread_cpu_s()
    server.pause()
    spent_ms = [1e3 * (spent_s - before.get(thread, 0.0)) / closed.answered for thread, spent_s in after.items()]
    network_ms, all_ms = sum(sorted(spent_ms, reverse=True)[:engine_threads]), sum(spent_ms)
    print(f"\nprocessor time per image of {server.contender.name}, {CLIENTS} clients, {closed.answered} images")
    print(f"  {network_ms:5.1f} ms in the network ({engine_threads} threads), {network_ms / all_ms:.0%} of all")
    print(f"  {all_ms - network_ms:5.1f} ms around it: HTTP, decoding, batching, TensorFlow's scheduling")
    print(
        f"  the engine was at work for {passed_s / wall_s:.1%} of the time, from the first request to the last answer"
    )
