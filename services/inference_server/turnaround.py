"""Clients that come back as soon as they are answered: what share of them does, and how long a pass waits for them.

Clients in a closed loop fall into groups that take turns: while one group's images are in the engine, the other's are
decoded on the cores that the pass needs, and no pass is full. A pass that waits for those answered a moment ago takes
all of them together, and they are decoded while the engine has nothing else to do. In an open loop no more come within
a quarter of a pass than a quarter of those it answers, and nothing waits.
"""

import math
from typing import Final

_WEIGHT: Final = 0.2
_LEAST_SHARE: Final = 0.5
_OF_PASS: Final = 1 / 4


class Turnaround:
    """What share of the images just answered is followed by another at once, learned from pass to pass.

    At once is within the time that a pass may wait: a quarter of the last pass, and at most `most_s`. Where clients
    take longer (or passes are so short that waiting for them would not pay) the share falls, and nothing waits.
    Not thread-safe: the batcher's lock guards it. All times are seconds of one monotonic clock.
    """

    def __init__(self, most_s: float) -> None:
        self._most_s = most_s
        self._share = 0.0
        self._answered = 0
        self._arrived = 0
        self._idle = False
        self._ended_s = float("-inf")
        self._wait_s = 0.0

    def pass_ended(self, images: int, pass_s: float, queued: int, now_s: float) -> None:
        """`images` are answered now, after a pass of `pass_s`; so many are queued.

        Where the engine became idle and nobody came, the load has ended: that says nothing of the next one's clients.
        """
        if self._answered and (self._arrived or not self._idle):
            share = min(self._arrived / self._answered, 1.0)
            self._share += _WEIGHT * (share - self._share)
        self._answered, self._arrived, self._idle = images, 0, not queued
        self._ended_s, self._wait_s = now_s, min(pass_s * _OF_PASS, self._most_s)

    def arrived(self, images: int, now_s: float) -> None:
        """`images` have come."""
        if now_s - self._ended_s <= self._wait_s:
            self._arrived += images

    def left_s(self, decoding: int, now_s: float) -> float:
        """How long the next pass should still wait, with so many images being decoded: 0 once all that are expected
        have come and are ready, and when time is up.

        Who is left behind waits for a whole pass, so the number expected is rounded up.
        """
        expected = math.ceil(self._share * self._answered) if self._share >= _LEAST_SHARE else 0
        if not expected or (self._arrived >= expected and not decoding):
            return 0.0
        return max(self._ended_s + self._wait_s - now_s, 0.0)
