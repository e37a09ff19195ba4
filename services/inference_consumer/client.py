"""The HTTP side: frames in, their answers out, with everything transient retried."""

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import requests
from prometheus_client import Counter
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_delay, wait_random_exponential
from tenacity.wait import wait_base

from services.contract.clock import Clock

log = logging.getLogger(__name__)
_T = TypeVar("_T")
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
    """Keep-alive requests to one inference server, a JPEG as a raw body; safe to share between threads."""

    def __init__(self, base_url: str, clock: Clock, *, timeout_s: float, retry_for_s: float) -> None:
        self._url = base_url.rstrip("/") + "/predict"
        self._url_of_several = f"{self._url}/batch"
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

    def predict(self, jpegs: Sequence[bytes]) -> list[Answer | RejectedError]:
        """Label JPEGs with one request, trying again while the server is busy or unreachable.

        Where it answers the others but not one, or will not take several, each is asked for again by itself: that says
        what is wrong with it. Raises `UnavailableError` when the server still could not after ``retry_for_s``.
        """
        if len(jpegs) == 1:
            return [self._predict_one(jpegs[0])]
        try:
            answers = self._persist(lambda attempt: self._ask_for_several(jpegs, attempt))
        except RejectedError:
            answers = [None] * len(jpegs)
        return [answer or self._predict_one(jpeg) for jpeg, answer in zip(jpegs, answers, strict=True)]

    def _predict_one(self, jpeg: bytes) -> Answer | RejectedError:
        try:
            return self._persist(lambda attempt: self._ask(jpeg, attempt))
        except RejectedError as error:
            return error

    def _persist(self, ask: Callable[[int], _T]) -> _T:
        """What `ask` returns of the first attempt, counted from 1, that the server was there for."""
        retrying = Retrying(
            retry=retry_if_exception_type(UnavailableError),
            stop=stop_after_delay(self._retry_for_s),
            wait=_WaitAsTold(),
            before_sleep=self._count_retry,
            reraise=True,
        )
        for attempt in retrying:
            with attempt:
                return ask(attempt.retry_state.attempt_number)
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
        requested_ns, answered_ns, body = self._exchange(lambda: self._post(jpeg))
        return Answer(requested_ns, answered_ns, attempt, body)

    def _ask_for_several(self, jpegs: Sequence[bytes], attempt: int) -> list[Answer | None]:
        """Their answers; None in the place of one that the server did not label."""
        files = [("image", (f"{number}.jpg", jpeg, "image/jpeg")) for number, jpeg in enumerate(jpegs)]
        requested_ns, answered_ns, body = self._exchange(
            lambda: self._session().post(self._url_of_several, files=files, timeout=self._timeout_s)
        )
        predictions = body["predictions"]
        return [Answer(requested_ns, answered_ns, attempt, one) if "label" in one else None for one in predictions]

    def _exchange(self, post: Callable[[], requests.Response]) -> tuple[int, int, dict[str, Any]]:
        """When a request was sent and answered, and the answer."""
        requested_ns = self._clock.now_ns()
        try:
            response = post()
        except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
            raise UnavailableError(type(error).__name__) from error
        answered_ns = self._clock.now_ns()
        if response.status_code == 200:
            return requested_ns, answered_ns, response.json()
        reason = f"HTTP {response.status_code}"
        if response.status_code in (400, 413, 415, 422):
            raise RejectedError(reason, response.text)
        raise UnavailableError(reason, _retry_after_s(response))


def _retry_after_s(response: requests.Response) -> float:
    try:
        return max(0.0, float(response.headers.get("Retry-After", 0)))
    except ValueError:
        return 0.0
