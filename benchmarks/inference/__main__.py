"""Our inference server against a naive one, BentoML, LitServe and Ray Serve, and against the same work without HTTP.

Same frames, same engine (but for the naive one), in turn; then several images per request, what the forms of the
network take in memory and what a memory budget costs, and twice the load that it can bear. Bounded: about 25 minutes on
two cores, 5 with ``--quick``.
"""

import argparse
import os
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Final

from benchmarks.inference import bundles, decoders, environment, memory, overload, processor_time
from benchmarks.inference.contenders import (
    NAIVE,
    OURS,
    PEERS,
    UNBATCHED,
    Contender,
    Running,
    end_servers_on_sigterm,
    interpreter,
)
from benchmarks.inference.frames import make_frames
from benchmarks.inference.limit import Limit
from benchmarks.inference.load import closed_loop
from benchmarks.inference.race import FULL, QUICK, Size, print_race, race
from benchmarks.inference.verdicts import verdicts
from benchmarks.targets import Verdict, print_verdicts
from services.contract.settings import InferenceServerSettings
from services.inference_server import artefacts, calibrate, weights

CACHE: Final = environment.ROOT / ".build/inference_server"


def _plan_variables() -> dict[str, str]:
    """The environment that gives every server the same weights, engine and threads."""
    settings = weights.resolve(InferenceServerSettings(cache_directory=CACHE))
    folder = artefacts.folder_of(settings, CACHE)
    choice = calibrate.choose(settings, folder)
    artefacts.export_missing(settings, folder, [choice.plan.form.artefact])
    plan = choice.plan
    print(f"engine: {plan.form.name}, threads {plan.intra_op_threads} and {plan.inter_op_threads}; {choice.reason}")
    return {
        **os.environ,
        "CACHE_DIRECTORY": str(CACHE),
        "WEIGHTS": settings.weights,
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "BENCH_FOLDER": str(folder),
        "BENCH_FORM": plan.form.name,
        "BENCH_INTRA": str(plan.intra_op_threads),
        "BENCH_INTER": str(plan.inter_op_threads),
    }


def _start(stack: ExitStack, contenders: list[Contender], variables: dict[str, str], jpeg: bytes) -> list[Running]:
    """Start one after another, each alone; say how long each took and what it weighs. One that fails is left out."""
    python = environment.ensure() if any(contender.own_environment for contender in contenders) else environment.FOLDER
    started = []
    print(f"\n{'start':<18}{'seconds':>9}{'memory MB':>11}{'CPU s':>8}")
    for contender in contenders:
        running = Running(contender, interpreter(contender, python), variables)
        stack.callback(running.end)
        try:
            running.wait_until_it_labels(jpeg)
        except RuntimeError as error:
            print(f"{contender.name:<18} left out: {error}")
            continue
        memory, cpu_s = running.memory_bytes() / 1e6, running.cpu_s()
        print(f"{contender.name:<18}{running.start_s:>9.1f}{memory:>11.0f}{cpu_s:>8.1f}", flush=True)
        running.pause()
        started.append(running)
    return started


def _race(variables: dict[str, str], frames: list[bytes], size: Size, with_peers: bool) -> tuple[list[Verdict], bool]:
    """The race; its verdicts, and whether every contender could be started."""
    contenders = [OURS, UNBATCHED, NAIVE, *(PEERS if with_peers else ())]
    with ExitStack() as stack:
        servers = _start(stack, contenders, variables, frames[0])
        limit = Limit(variables)
        stack.callback(limit.end)
        results = race(servers, limit, frames, size, InferenceServerSettings().batch_max)
        names = [server.contender.name for server in servers]
        print_race(results, names)
        processor_time.print_profile(
            servers[0], frames, 2 * size.images[processor_time.CLIENTS], int(variables["BENCH_INTRA"])
        )
        print(f"\n{'after the race':<18}{'memory MB':>11}{'peak MB':>9}")
        for server in servers:
            print(f"{server.contender.name:<18}{server.memory_bytes() / 1e6:>11.0f}{server.peak_bytes() / 1e6:>9.0f}")
    return verdicts(results, names), len(servers) == len(contenders)


def _bounded_memory(variables: dict[str, str], frames: list[bytes], size: Size) -> list[Verdict]:
    """What the forms take, and a server with a memory budget against one without."""
    with ExitStack() as stack:
        known = memory.calibrate(variables, Path(stack.enter_context(tempfile.TemporaryDirectory())))
        servers = _start(stack, list(memory.CONTENDERS), known, frames[0])
        if len(servers) < len(memory.CONTENDERS):
            return [Verdict("a server with a memory budget starts", "it did not", False)]
        return memory.compare(servers, frames, size.rounds[memory.CLIENTS], size.images[memory.CLIENTS])


def _bundles(variables: dict[str, str], frames: list[bytes], size: Size) -> list[Verdict]:
    """Several images per request against one."""
    with ExitStack() as stack:
        for server in _start(stack, [OURS], variables, frames[0]):
            return bundles.compare(server, frames, size.rounds, size.images)
    return [Verdict("the server starts", "it did not", False)]


def _overload(variables: dict[str, str], frames: list[bytes], size: Size) -> list[Verdict]:
    """A server with a short queue, first at its capacity, then offered twice that."""
    with ExitStack() as stack:
        for server in _start(stack, [OURS], {**variables, "QUEUE_MAX": str(overload.QUEUE_MAX)}, frames[0]):
            server.resume()
            capacity_hz = closed_loop(server.target, frames, 8, size.images[8], 20.0).images_per_s
            return overload.overload(server, frames, capacity_hz, size.limit_s)
    return [Verdict("the server starts", "it did not", False)]


PARTS: Final = ("race", "bundles", "memory", "overload")


def main() -> int:
    """Run everything, or the parts named; 1 when a server could not be started."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.inference", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round: shows that it works, not how fast")
    parser.add_argument("--without-peers", action="store_true", help="only ours, the naive one and the limit")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="beside the decoders")
    parser.add_argument("--clients", nargs="+", type=int, choices=sorted(FULL.rounds), help="of the race; default: all")
    arguments = parser.parse_args()
    end_servers_on_sigterm()
    size = QUICK if arguments.quick else FULL
    found, whole = decoders.compare(), True
    frames, variables = make_frames(), _plan_variables()
    if "race" in arguments.only:
        rounds = {clients: size.rounds[clients] for clients in arguments.clients or size.rounds}
        raced, whole = _race(variables, frames, replace(size, rounds=rounds), not arguments.without_peers)
        found += raced
    if "bundles" in arguments.only:
        found += _bundles(variables, frames, size)
    if "memory" in arguments.only:
        found += _bounded_memory(variables, frames, size)
    if "overload" in arguments.only:
        found += _overload(variables, frames, size)
    print_verdicts(found)
    return int(not whole)


if __name__ == "__main__":
    sys.exit(main())
