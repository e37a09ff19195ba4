"""Where our server's processor time goes: into the network, or into HTTP, decoding and batching around it."""

from typing import Final

from benchmarks.inference.contenders import Running
from benchmarks.inference.load import closed_loop

CLIENTS: Final = 32


def print_profile(server: Running, frames: list[bytes], images: int, engine_threads: int) -> None:
    """Load the server once more and print the processor time per image by kind of thread.

    The network runs in as many threads as the engine has, told from the others by being the busiest.
    """
    server.resume()
    before = server.thread_cpu_s()
    closed = closed_loop(server.target, frames, CLIENTS, images, 20.0)
    after = server.thread_cpu_s()
    server.pause()
    spent_ms = [1e3 * (spent_s - before.get(thread, 0.0)) / closed.answered for thread, spent_s in after.items()]
    network_ms, all_ms = sum(sorted(spent_ms, reverse=True)[:engine_threads]), sum(spent_ms)
    print(f"\nprocessor time per image of {server.contender.name}, {CLIENTS} clients, {closed.answered} images")
    print(f"  {network_ms:5.1f} ms in the network ({engine_threads} threads), {network_ms / all_ms:.0%} of all")
    print(f"  {all_ms - network_ms:5.1f} ms around it: HTTP, decoding, batching, TensorFlow's scheduling")
