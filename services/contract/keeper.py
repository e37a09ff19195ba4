"""Keeps a pod alive beside or without a worker, and hands over the files that the worker left.

``python -m services.contract.keeper ACTION``: ``idle`` waits for SIGTERM. ``hold FOLDER`` waits for SIGTERM, which a
sidecar gets once the worker has ended, and then until someone has called ``release FOLDER``: so a consumer's latency
CSV outlives the consumer until it is fetched. ``list FOLDER`` waits for that end; ``send FOLDER NAME`` hands over a
file.
"""

import argparse
import base64
import hashlib
import json
import signal
import sys
import threading
import time
import zlib
from pathlib import Path
from typing import Any, Final

_ENDED: Final = ".worker-ended"
RELEASED: Final = ".released"
"""Name of the empty file that lets `hold` end."""
_LINE_BYTES: Final = 48 * 1024


def wait_for_stop() -> None:
    """Return at SIGTERM or SIGINT."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    while not stop.wait(3600):
        pass


def hold(folder: Path) -> None:
    """Return after SIGTERM once `folder` has been released; the pod's grace period bounds the wait."""
    wait_for_stop()
    (folder / _ENDED).touch()
    while not (folder / RELEASED).exists():
        time.sleep(0.2)


def wait_for_end(folder: Path, timeout_s: float) -> None:
    """Return once the worker beside ``hold`` has ended. Raises `TimeoutError`."""
    deadline = time.monotonic() + timeout_s
    while not (folder / _ENDED).exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f"the worker that writes {folder} has not ended within {timeout_s:g} s")
        time.sleep(0.1)


def release(folder: Path) -> None:
    """Say that everything in `folder` has been fetched."""
    (folder / RELEASED).touch()


def files(folder: Path) -> list[dict[str, Any]]:
    """The finished files of `folder`: ``name``, ``bytes`` and ``sha256`` of each, by name."""
    found = []
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.suffix in (".csv", ".json"):
            content = path.read_bytes()
            found.append({"name": path.name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()})
    return found


def send(folder: Path, name: str) -> None:
    """Write one file to standard output as lines of base64 of its zlib stream: terminals and proxies pass those."""
    packed = zlib.compress((folder / Path(name).name).read_bytes(), level=6)
    for start in range(0, len(packed), _LINE_BYTES):
        print(base64.b64encode(packed[start : start + _LINE_BYTES]).decode())


def unpack(lines: str) -> bytes:
    """The file that `send` wrote. Raises `ValueError` when the text is cut or damaged."""
    try:
        return zlib.decompress(b"".join(base64.b64decode(line, validate=True) for line in lines.split()))
    except zlib.error as error:
        raise ValueError(f"the transfer was cut or damaged: {error}") from error


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m services.contract.keeper", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    actions.add_parser("idle", help="wait for SIGTERM")
    for action, text in (
        ("hold", "wait for SIGTERM and the release"),
        ("release", "let hold end"),
        ("list", "wait for the worker's end; names and checksums of the files, as JSON"),
        ("send", "one file"),
    ):
        actions.add_parser(action, help=text).add_argument("folder", type=Path)
    actions.choices["send"].add_argument("name")
    actions.choices["list"].add_argument("--timeout-s", type=float, default=120.0, help="for the worker's end")
    args = parser.parse_args()
    if args.action == "idle":
        wait_for_stop()
    elif args.action == "hold":
        hold(args.folder)
    elif args.action == "release":
        release(args.folder)
    elif args.action == "list":
        wait_for_end(args.folder, args.timeout_s)
        json.dump(files(args.folder), sys.stdout)
    else:
        send(args.folder, args.name)


if __name__ == "__main__":
    main()
