"""Errors that a client sees: a status, a machine-readable reason and a sentence."""

import math
from dataclasses import dataclass


@dataclass
class ApiError(Exception):
    """Ends a request with `status` and the JSON ``{"reason": …, "message": …}``.

    With `retry_after_s` the answer also carries ``retry_after_s`` in its body and the header ``Retry-After``, in whole
    seconds rounded up as RFC 9110 section 10.2.3 wants them.
    """

    status: int
    reason: str
    message: str
    retry_after_s: float | None = None

    def body(self) -> dict[str, str | float]:
        """The JSON body of the answer."""
        body: dict[str, str | float] = {"reason": self.reason, "message": self.message}
        if self.retry_after_s is not None:
            body["retry_after_s"] = round(self.retry_after_s, 3)
        return body

    def headers(self) -> dict[str, str]:
        """The headers that go with the answer."""
        if self.retry_after_s is None:
            return {}
        return {"Retry-After": str(max(1, math.ceil(self.retry_after_s)))}
