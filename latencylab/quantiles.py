"""The names of quantiles, and how many samples each needs; apart from scipy, which is slow to import."""

import bisect
import functools


def label(q: float) -> str:
    """The name of quantile `q` in tables and figures: 0.5 is ``p50``, 0.999 is ``p99.9``."""
    return f"p{round(100 * q, 6):g}"


@functools.cache
def minimum_samples(q: float, confidence: float = 0.95) -> int:
    """The smallest n for which an order-statistic interval of quantile `q` exists: 6, 29, 299 and 2995 for
    p50, p90, p99 and p99.9 at 95 %.

    The widest interval, from the smallest sample to the largest, misses with probability ``q^n + (1-q)^n``.
    Source: Wilks, Ann. Math. Stat. 12, 1941; David and Nagaraja, Order Statistics, 3rd ed., section 7.1.
    """
    check(q, confidence)

    def miss(n: int) -> float:
        return q**n + (1 - q) ** n - (1 - confidence)

    enough = 1
    while miss(enough) > 0:
        enough *= 2
    return bisect.bisect_left(range(enough + 1), True, lo=1, key=lambda n: miss(n) <= 0)


def check(q: float, confidence: float) -> None:
    """Raise `ValueError` for a quantile or a confidence outside (0, 1)."""
    if not 0 < q < 1:
        raise ValueError(f"q must lie between 0 and 1, got {q}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence}")
