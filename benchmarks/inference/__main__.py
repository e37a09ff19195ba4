"""Our inference server against a naive one, BentoML, LitServe and Ray Serve, and against the engine alone.

Same frames, same engine (but for the naive one), in turn. Bounded: about 7 minutes on two idle cores, 2 with
``--quick``.
"""

import argparse
import os
import statistics
import sys
from contextlib import ExitStack
from typing import Final

from benchmarks.inference import decoders, environment, overload
from benchmarks.inference.contenders import NAIVE, OURS, PEERS, UNBATCHED, Contender, Running, interpreter
from benchmarks.inference.frames import make_frames
from benchmarks.inference.limit import Limit
from benchmarks.inference.race import FULL, LIMIT, QUICK, print_race, race
from services.contract.settings import InferenceServerSettings
from services.inference_server import artefacts, calibrate, weights

CACHE: Final = environment.ROOT / ".build/inference_server"


def _plan_variables() -> dict[str, str]:
    """The environment that gives every server the same weights, engine and threads."""
    settings = weights.resolve(InferenceServerSettings(cache_directory=CACHE))
    folder = artefacts.folder_of(settings, CACHE)
    choice = calibrate.choose(settings, folder)
    if absent := artefacts.missing(folder, choice.plan.form.artefact):
        artefacts.export(settings, folder, absent)
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


def main() -> int:
    """Run everything; 1 when a server could not be started."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.inference", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round: shows that it works, not how fast")
    parser.add_argument("--without-peers", action="store_true", help="only ours, the naive one and the limit")
    arguments = parser.parse_args()
    size = QUICK if arguments.quick else FULL
    decoders.main()
    frames = make_frames()
    variables = _plan_variables()
    contenders = [OURS, UNBATCHED, NAIVE, *(() if arguments.without_peers else PEERS)]
    batch_max = InferenceServerSettings().batch_max
    with ExitStack() as stack:
        servers = _start(stack, contenders, variables, frames[0])
        limit = Limit(variables)
        stack.callback(limit.end)
        results = race(servers, limit, frames, size, batch_max)
        names = [server.contender.name for server in servers]
        print_race(results, names)
        rates = {clients: statistics.median(t.images_per_s for t in results["ours", clients]) for clients in (8, 32)}
        for clients, rate in rates.items():
            of_limit = statistics.median(
                ours.images_per_s / alone.images_per_s
                for ours, alone in zip(results["ours", clients], results[LIMIT, clients], strict=True)
            )
            print(f"\nours at {clients} clients: {rate:.1f} images/s, {of_limit:.2f} of the engine alone", end="")
        print()
        bounded = {"MEMORY_BUDGET_BYTES": str(overload.BUDGET_BYTES), "QUEUE_MAX": str(overload.QUEUE_MAX)}
        for server in _start(stack, [OURS], {**variables, **bounded}, frames[0]):
            capacity_hz = overload.budget(server, frames, rates[8], size.images[8])
            overload.overload(server, frames, capacity_hz, 4.0 if arguments.quick else 10.0)
    return int(len(servers) < len(contenders))


if __name__ == "__main__":
    sys.exit(main())
