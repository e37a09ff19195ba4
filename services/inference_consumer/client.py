"""The HTTP side: one frame in, its answer out, with everything transient retried."""

import logging
import threading
from dataclasses import dataclass
from typing import Any

import requests
from prometheus_client import Counter
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_delay, wait_random_exponential
from tenacity.wait import wait_base

from services.contract.clock import Clock

log = logging.getLogger(__name__)
_retries = Counter("inference_retries_total", "Requests tried again", ["reason"])


class RejectedError(Exception):
    """The server will never label this image: `reason` is one of its 4xx answers."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class UnavailableError(Exception):
    """The server can't label this image now; `retry_after_s` is its own estimate of when it can."""

    def __init__(self, reason: str, retry_after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after_s = retry_after_s


@dataclass(frozen=True)
class Answer:
    """A label and when it was asked for and had; times in ns since the epoch, the server's durations in ns."""

    requested_ns: int
    answered_ns: int
    attempts: int
    body: dict[str, Any]


class _WaitAsTold(wait_base):
    """The server's Retry-After when it gave one, plus a random backoff that grows with the attempts."""

    def __init__(self) -> None:
        self._backoff = wait_random_exponential(0.02, max=2)

    def __call__(self, retry_state: RetryCallState) -> float:
        error = retry_state.outcome.exception() if retry_state.outcome else None
        told_s = error.retry_after_s if isinstance(error, UnavailableError) else 0.0
        return told_s + self._backoff(retry_state)


class InferenceClient:
    """Keep-alive requests of raw JPEG bodies to one inference server; safe to share between threads."""

    def __init__(self, base_url: str, clock: Clock, *, timeout_s: float, retry_for_s: float) -> None:
        self._url = base_url.rstrip("/") + "/predict"
        self._clock = clock
        self._timeout_s = timeout_s
        self._retry_for_s = retry_for_s
        self._local = threading.local()
        self.retries: dict[str, int] = {}

    def _session(self) -> requests.Session:
        session = getattr(self._local, "session", None)
        if session is None:
            session = self._local.session = requests.Session()
            session.trust_env = False  # a proxy for the outside world has no place between two pods
        return session

    def predict(self, jpeg: bytes) -> Answer:
        """Label one JPEG, trying again while the server is busy or unreachable.

        Raises `RejectedError` when it never will, `UnavailableError` when it still could not after ``retry_for_s``.
        """
        retrying = Retrying(
            retry=retry_if_exception_type(UnavailableError),
            stop=stop_after_delay(self._retry_for_s),
            wait=_WaitAsTold(),
            before_sleep=self._count_retry,
            reraise=True,
        )
        for attempt in retrying:
            with attempt:
                return self._ask(jpeg, attempt.retry_state.attempt_number)
        raise AssertionError("unreachable: tenacity either returns or raises")

    def _count_retry(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        reason = error.reason if isinstance(error, UnavailableError) else "unknown"
        _retries.labels(reason).inc()
        self.retries[reason] = self.retries.get(reason, 0) + 1

    def _post(self, jpeg: bytes) -> requests.Response:
        headers = {"Content-Type": "image/jpeg"}
        return self._session().post(self._url, data=jpeg, headers=headers, timeout=self._timeout_s)

    def _ask(self, jpeg: bytes, attempt: int) -> Answer:
        requested_ns = self._clock.now_ns()
        try:
            response = self._post(jpeg)
        except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
            raise UnavailableError(type(error).__name__) from error
        answered_ns = self._clock.now_ns()
        if response.status_code == 200:
            return Answer(requested_ns, answered_ns, attempt, response.json())
        reason = f"HTTP {response.status_code}"
        if response.status_code in (400, 413, 415, 422):
            raise RejectedError(reason, response.text)
        raise UnavailableError(reason, _retry_after_s(response))


def _retry_after_s(response: requests.Response) -> float:
    try:
        return max(0.0, float(response.headers.get("Retry-After", 0)))
    except ValueError:
        return 0.0
