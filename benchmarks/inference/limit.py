"""The engine alone, without HTTP and decoding, in a process that works when told: the limit that no server passes."""

import json
import subprocess
import sys
import time

from benchmarks.inference.environment import ROOT


class Limit:
    """A child with the engine warm; `measure` gives images a second and processor seconds per image."""

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

    def measure(self, batch: int, images: int) -> tuple[float, float]:
        """Images a second and processor seconds per image in passes of `batch`."""
        assert self._child.stdin is not None
        print(batch, images, file=self._child.stdin, flush=True)
        answer = self._read()
        return answer["images_per_s"], answer["cpu_s"]

    def end(self) -> None:
        """End the child."""
        self._child.kill()
        self._child.wait()


def _main() -> None:
    from benchmarks.inference.servers.engine import open_same
    from services.inference_server.agreement import make_frames

    engine, frames = open_same(), make_frames()
    print("{}", flush=True)
    for line in sys.stdin:
        batch, images = map(int, line.split())
        passes = max(images // batch, 1)
        wall, processor = time.perf_counter(), time.process_time()
        for _ in range(passes):
            engine(frames[:batch])
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
        done = passes * batch
        print(json.dumps({"images_per_s": done / wall, "cpu_s": processor / done}), flush=True)


if __name__ == "__main__":
    _main()
