"""Frames as the consumers get them: what a camera wrote, and the Kafka record that carries it."""

from types import SimpleNamespace

import pytest

from services.contract.message import FrameHeaders, make_image_id


@pytest.fixture
def make_headers():
    """Headers of frame `seq` of one camera."""

    def make(seq=0):
        return FrameHeaders(make_image_id("run", "cam-0000", seq), "run", "cam-0000", seq, 1_000, 2_000, "cross")

    return make


@pytest.fixture
def make_record(make_headers):
    """The record of frame `offset`, with changes."""

    def make(offset=0, partition=0, **changes):
        headers = make_headers(offset).encode()
        fields = {"topic": "frames", "partition": partition, "offset": offset, "headers": headers}
        return SimpleNamespace(**{**fields, "key": b"cam-0000", "value": b"jpeg %d" % offset, **changes})

    return make


class Writer:
    """Keeps what it was given; a test settles it."""

    def __init__(self):
        self.writes = []

    def put(self, write):
        self.writes.append(write)


@pytest.fixture
def writer():
    """A `FrameWriter` that writes nothing."""
    return Writer()
