"""The inference consumer as the naive server's interface wants it: base64 in JSON, a new connection for each frame.

``python -m benchmarks.naive_consumer`` takes the place of `services.inference_consumer` in a run; ``NAIVE_URL`` names
the server. How many requests it keeps in flight is the experiment's to say, as ever.
"""

import base64
import os
import sys

import requests

from services.contract.consumer import ConsumerProcess, set_up_logging
from services.contract.latency_csv import INFERENCE_COLUMNS
from services.contract.settings import InferenceConsumerSettings
from services.inference_consumer.client import InferenceClient
from services.inference_consumer.main import GROUP, LabelFrames


class NaiveClient(InferenceClient):
    """Asks as a first attempt does."""

    def _post(self, jpeg: bytes) -> requests.Response:
        with requests.Session() as session:
            session.trust_env = False
            body = {"image": base64.b64encode(jpeg).decode()}
            return session.post(self._url, json=body, headers={"Connection": "close"}, timeout=self._timeout_s)


class NaiveLabelFrames(LabelFrames):
    """As ours, but for the client."""

    def __init__(self, process: ConsumerProcess, settings: InferenceConsumerSettings) -> None:
        super().__init__(process, settings)
        limits = {"timeout_s": settings.request_timeout_s, "retry_for_s": settings.retry_for_s}
        self._client = NaiveClient(settings.inference_url, process.clock, **limits)


def main() -> int:
    """Run until SIGTERM."""
    set_up_logging()
    settings = InferenceConsumerSettings(inference_url=os.environ["NAIVE_URL"], images_per_request=1)  # type: ignore[call-arg]
    process = ConsumerProcess(settings, GROUP, INFERENCE_COLUMNS)
    return process.run(NaiveLabelFrames(process, settings))


if __name__ == "__main__":
    sys.exit(main())
