"""What the suite asks of a pipeline from inside its cluster: one process, one JSON line per request and answer.

``python -m services.contract.toolbox`` reads ``{"do": NAME, ...arguments}`` from standard input. It answers with
``{"part": TEXT}`` lines, if the answer is long, and then ``{"done": VALUE}`` or ``{"error": TEXT}``. One process for a
whole session, because starting Python for each question would load the hosts that are being measured.
"""

import base64
import json
import sys
import time
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, Final

from services.contract import broker, database
from services.contract.settings import InferenceConsumerSettings, KafkaSettings, MongoSettings, ReplicationSettings

_DOCUMENTS_PER_PART: Final = 2000


def renew_topics(settings: dict[str, str]) -> None:
    """Make the run's topics anew; `settings` are fields of `ReplicationSettings` that the environment lacks."""
    broker.renew_topics(ReplicationSettings(**settings))  # type: ignore[arg-type]


def start(run_id: str, lead_s: float) -> int:
    """Publish a start `lead_s` from now, by the clock of this host; return it in ns since the epoch."""
    start_at_ns = time.time_ns() + int(lead_s * 1e9)
    broker.publish_start(KafkaSettings(), run_id, start_at_ns)  # type: ignore[call-arg]
    return start_at_ns


def lag(run_id: str, groups: list[str]) -> dict[str, int]:
    """Frames that each consumer group has not committed."""
    return broker.lag(KafkaSettings(), run_id, tuple(groups))  # type: ignore[call-arg]


def end_offsets() -> dict[str, dict[int, int]]:
    """End offsets of the frames and the dead topic."""
    return broker.end_offsets(KafkaSettings())  # type: ignore[call-arg]


def check_database() -> dict[str, Any]:
    """Write, read back, and say which server did it."""
    return database.check(_collection())


def empty_database() -> None:
    """Drop what earlier runs left in MongoDB."""
    database.empty(_collection())


def check_inference(jpeg: str) -> dict[str, Any]:
    """Have one picture (base64 of a JPEG) labelled: ``answer`` of /predict and ``info`` of the server."""
    base = _inference_url()
    request = urllib.request.Request(
        f"{base}/predict", base64.b64decode(jpeg), headers={"Content-Type": "image/jpeg"}, method="POST"
    )
    with urllib.request.urlopen(request, timeout=60) as answer, urllib.request.urlopen(f"{base}/info") as info:
        return {"answer": json.load(answer), "info": json.load(info)}


def documents(run_id: str) -> Iterator[str]:
    """What MongoDB holds of the run, many documents in each part; `unpack` reads a part."""
    found = database.documents(_collection(), run_id)
    while chunk := list(islice(found, _DOCUMENTS_PER_PART)):
        yield base64.b64encode(zlib.compress(json.dumps(chunk).encode())).decode()


def unpack(part: str) -> list[dict[str, Any]]:
    """The documents of one part. Raises `ValueError` when it is damaged."""
    try:
        return list(json.loads(zlib.decompress(base64.b64decode(part, validate=True))))
    except zlib.error as error:
        raise ValueError(f"a part of the documents was damaged on its way: {error}") from error


def _collection() -> Any:
    return database.open_collection(MongoSettings())  # type: ignore[call-arg]


def _inference_url() -> str:
    return InferenceConsumerSettings(run_id="none").inference_url  # type: ignore[call-arg]


ACTIONS: Final[dict[str, Callable[..., Any]]] = {
    action.__name__: action
    for action in (renew_topics, start, lag, end_offsets, check_database, empty_database, check_inference, documents)
}


def answer(line: str) -> Iterator[dict[str, Any]]:
    """The answers to one request, the last of them ``done`` or ``error``."""
    try:
        request = json.loads(line)
        value = ACTIONS[request.pop("do")](**request)
        if isinstance(value, Iterator):
            for part in value:
                yield {"part": part}
            value = None
        yield {"done": value}
    except Exception as error:  # the asker decides what any failure means
        yield {"error": f"{type(error).__name__}: {error}"}


def main() -> None:
    for line in sys.stdin:
        for reply in answer(line):
            print(json.dumps(reply), flush=True)


if __name__ == "__main__":
    main()
