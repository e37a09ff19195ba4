"""The work without HTTP, in a process that does it when told: the limit that no server passes.

The same JPEG frames are decoded and labelled as in the race; while the engine is at one batch, the next is decoded. A
lone client's image has nothing to be decoded beside it, so with batches of one there is no overlap. The engine is also
timed by itself, on pixels: what decoding takes of the limit shows there.
"""

import itertools
import json
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

from benchmarks.inference.environment import ROOT

Work = Literal["frames", "pixels"]
"""What is timed: JPEG frames decoded and labelled, or pixels that are decoded already."""


class Limit:
    """A child with the engine warm."""

    def __init__(self, variables: dict[str, str]) -> None:
        self._child = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.inference.limit"],
            env=variables,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._read()

    def _read(self) -> dict[str, float]:
        assert self._child.stdout is not None
        line = self._child.stdout.readline()
        if not line:
            raise RuntimeError("the engine could not be opened in the benchmark's child process")
        return json.loads(line)

    def measure(self, work: Work, batch: int, images: int) -> tuple[float, float]:
        """Images a second and processor seconds per image in batches of `batch`."""
        assert self._child.stdin is not None
        print(work, batch, images, file=self._child.stdin, flush=True)
        answer = self._read()
        return answer["images_per_s"], answer["cpu_s"]

    def end(self) -> None:
        """End the child."""
        self._child.kill()
        self._child.wait()


def _main() -> None:
    import numpy as np

    from benchmarks.inference.frames import make_frames
    from benchmarks.inference.servers.engine import answers, open_same
    from services.inference_server.decode import Pixels, to_array

    engine, frames = open_same(), make_frames()
    endless, pool = itertools.cycle(frames), ThreadPoolExecutor(1)
    ready: dict[int, list[Pixels]] = {}  # by batch size, what is decoded for the next pass

    def decode(batch: int) -> list[Pixels]:
        return [to_array(jpeg) for jpeg in itertools.islice(endless, batch)]

    def label_frames(passes: int, batch: int) -> None:
        for _ in range(passes):
            if batch == 1:
                answers(engine, decode(1))
                continue
            following = pool.submit(decode, batch)
            answers(engine, ready[batch])
            ready[batch] = following.result()

    def label_pixels(passes: int, batch: int) -> None:
        pixels = np.stack(ready[batch])
        for _ in range(passes):
            engine(pixels)

    works: dict[str, Callable[[int, int], None]] = {"frames": label_frames, "pixels": label_pixels}
    print("{}", flush=True)
    for line in sys.stdin:
        name, *numbers = line.split()
        batch, images = map(int, numbers)
        passes = max(images // batch, 1)
        if batch not in ready:
            ready[batch] = decode(batch)
        wall, processor = time.perf_counter(), time.process_time()
        works[name](passes, batch)
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
        done = passes * batch
        print(json.dumps({"images_per_s": done / wall, "cpu_s": processor / done}), flush=True)


if __name__ == "__main__":
    _main()
