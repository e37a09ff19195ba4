"""NTP's four timestamps over a small UDP exchange, so that the clocks of two hosts can be compared.

``python -m services.contract.timesync respond`` answers for a while on one host; ``… measure HOST`` asks from another
and prints the samples as JSON. The arithmetic is in `latencylab.clock_offsets`. Only the standard library is used and
nothing else of the project, so that the file can also be copied to a bare machine.
"""

import argparse
import json
import socket
import struct
import sys
import time
from typing import Final

DEFAULT_PORT: Final = 32123

_REQUEST: Final = struct.Struct("!4sIq")  # magic, number of the exchange, t1
_ANSWER: Final = struct.Struct("!4sIqqq")  # magic, number of the exchange, t1, t2, t3
_MAGIC: Final = b"LLT1"

Sample = tuple[int, int, int, int]
"""One exchange in ns since the epoch: request sent (t1, asker), received (t2, responder), answer sent (t3, responder),
answer received (t4, asker)."""


class NoAnswerError(TimeoutError):
    """The responder answered fewer exchanges than were asked for; the text names its address."""


def respond(sock: socket.socket, for_s: float) -> int:
    """Answer requests on a bound UDP socket for `for_s` seconds; return how many were answered.

    A datagram that is not a request is ignored, as a port open to a network gets those too.
    """
    deadline = time.monotonic() + for_s
    answered = 0
    while (left := deadline - time.monotonic()) > 0:
        sock.settimeout(left)
        try:
            datagram, peer = sock.recvfrom(_ANSWER.size)
        except TimeoutError:
            break
        received_ns = time.time_ns()
        if len(datagram) != _REQUEST.size:
            continue
        magic, number, asked_ns = _REQUEST.unpack(datagram)
        if magic != _MAGIC:
            continue
        sock.sendto(_ANSWER.pack(_MAGIC, number, asked_ns, received_ns, time.time_ns()), peer)
        answered += 1
    return answered


def measure(host: str, port: int, count: int = 16, timeout_s: float = 10.0, interval_s: float = 0.02) -> list[Sample]:
    """Ask the responder at `host`:`port` until `count` exchanges are complete; return them in order.

    Lost datagrams are asked again. Raises `NoAnswerError` when fewer than `count` are complete after `timeout_s`,
    `OSError` when the name doesn't resolve.
    """
    deadline = time.monotonic() + timeout_s
    family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    samples: list[Sample] = []
    with socket.socket(family, kind, proto) as sock:
        number = 0
        while len(samples) < count:
            if time.monotonic() > deadline:
                raise NoAnswerError(
                    f"{host} answered {len(samples)} of {count} time requests on UDP port {port}"
                    f" within {timeout_s:g} s; is the responder running, and the port open between the two hosts?"
                )
            number += 1
            sample = _exchange(sock, address, number)
            if sample is not None:
                samples.append(sample)
                time.sleep(interval_s)
    return samples


def _exchange(sock: socket.socket, address: tuple, number: int, patience_s: float = 0.5) -> Sample | None:
    """One exchange, or None if it wasn't answered in time."""
    asked_ns = time.time_ns()
    patient_until = time.monotonic() + patience_s
    try:
        sock.sendto(_REQUEST.pack(_MAGIC, number, asked_ns), address)
        while (left := patient_until - time.monotonic()) > 0:
            sock.settimeout(left)
            datagram, _ = sock.recvfrom(_ANSWER.size)
            answered_ns = time.time_ns()
            if len(datagram) != _ANSWER.size:
                continue
            magic, echoed, t1, t2, t3 = _ANSWER.unpack(datagram)
            if magic == _MAGIC and echoed == number and t1 == asked_ns:  # not the late answer of an earlier exchange
                return t1, t2, t3, answered_ns
    except (TimeoutError, ConnectionRefusedError):
        time.sleep(max(0.0, min(0.1, patient_until - time.monotonic())))  # the responder may be about to start
    return None


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m services.contract.timesync", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    answering = actions.add_parser("respond", help="answer time requests, then end")
    answering.add_argument("--for-s", type=float, default=30.0, help="seconds (default 30)")
    asking = actions.add_parser("measure", help="ask a responder and print the samples as JSON")
    asking.add_argument("host")
    asking.add_argument("--count", type=int, default=16, help="exchanges (default 16)")
    for action in (answering, asking):
        action.add_argument("--port", type=int, default=DEFAULT_PORT, help=f"UDP port (default {DEFAULT_PORT})")
    args = parser.parse_args()
    if args.action == "respond":
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("", args.port))
            print(f"answering on UDP port {sock.getsockname()[1]}", flush=True)
            respond(sock, args.for_s)
        return
    try:
        print(json.dumps({"host": args.host, "samples": measure(args.host, args.port, args.count)}))
    except OSError as error:
        sys.exit(f"timesync: {error}")


if __name__ == "__main__":
    main()
