import threading
import time
from collections.abc import Iterator
from concurrent.futures import wait

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.inference_server.batcher import Batcher, Terms
from services.inference_server.errors import ApiError
from services.inference_server.metrics import Metrics
from services.inference_server.turnaround import Turnaround


def image(grey: int) -> np.ndarray:
    return np.full((224, 224, 3), grey, np.uint8)


def submit(batcher: Batcher, grey: int, terms: Terms | None = None):
    batcher.reserve(1)
    [future] = batcher.submit([image(grey)], terms or Terms())
    return future


@pytest.fixture
def batcher(engine) -> Iterator[Batcher]:
    batcher = Batcher(4, 8, Metrics())
    ready = threading.Event()
    batcher.start(lambda: engine, ready.set)
    assert ready.wait(10)
    yield batcher
    engine.gate.set()
    batcher.close()


def hold(batcher: Batcher, engine):
    """Make the engine busy with one image until its gate opens."""
    engine.gate.clear()
    while engine.entered.acquire(blocking=False):  # by passes before
        pass
    first = submit(batcher, 1)
    assert engine.entered.acquire(timeout=10)
    return first


def test_an_idle_engine_takes_a_lone_image_at_once(batcher, engine):
    outcome = submit(batcher, 200).result(10)
    assert outcome.scores.argmax() == 200
    assert outcome.batch_images == 1
    assert engine.batches == [1]


def test_what_gathers_while_the_engine_is_busy_runs_together_up_to_the_maximum(batcher, engine):
    first = hold(batcher, engine)
    rest = [submit(batcher, grey) for grey in range(10, 16)]
    engine.gate.set()
    answers = [future.result(10) for future in [first, *rest]]
    assert engine.batches == [1, 4, 2]
    assert [int(answer.scores.argmax()) for answer in answers] == [1, *range(10, 16)]
    assert all(answer.queue_ns >= 0 and answer.inference_ns > 0 for answer in answers)


def test_what_is_submitted_together_runs_together_even_by_an_idle_engine(batcher, engine):
    batcher.reserve(3)
    futures = batcher.submit([image(grey) for grey in (4, 5, 6)], Terms())
    assert [int(future.result(10).scores.argmax()) for future in futures] == [4, 5, 6]
    assert engine.batches == [3]


def test_a_full_queue_refuses_with_the_time_it_needs(batcher, engine):
    submit(batcher, 5).result(10)  # so that the rate is known
    hold(batcher, engine)
    futures = [submit(batcher, 9) for _ in range(8)]
    with pytest.raises(ApiError) as refusal:
        batcher.reserve(1)
    assert (refusal.value.status, refusal.value.reason) == (503, "queue_full")
    assert refusal.value.retry_after_s == pytest.approx(2 * batcher.image_s)
    assert int(refusal.value.headers()["Retry-After"]) >= 1
    engine.gate.set()
    assert {future.result(10).scores.argmax() for future in futures} == {9}
    batcher.reserve(8)
    batcher.release(8)


def test_several_images_count_as_several(batcher, engine):
    hold(batcher, engine)
    batcher.reserve(6)
    with pytest.raises(ApiError, match="queue_full"):
        batcher.reserve(3)
    batcher.reserve(2)
    batcher.release(8)


def test_images_nobody_wants_any_more_cost_no_forward_pass_and_are_counted(batcher, engine):
    hold(batcher, engine)
    late = submit(batcher, 7, Terms(deadline_ns=time.time_ns() - 1))
    gone = submit(batcher, 8, Terms(gone=lambda: True))
    wanted = submit(batcher, 9, Terms(deadline_ns=time.time_ns() + 10**12, gone=lambda: False))
    engine.gate.set()
    assert wanted.result(10).scores.argmax() == 9
    for future, reason in ((late, "deadline_passed"), (gone, "client_gone")):
        error = future.exception(10)
        assert isinstance(error, ApiError)
        assert error.reason == reason
        assert batcher._metrics.dropped.labels(reason)._value.get() == 1
    assert engine.batches == [1, 1]


def test_a_dead_engine_tells_everybody_and_takes_nothing_more(engine):
    batcher, ended = Batcher(4, 8, Metrics()), threading.Event()
    batcher.start(lambda: engine, on_end=ended.set)
    running = hold(batcher, engine)
    waiting = submit(batcher, 3)
    engine.error = RuntimeError("out of memory")
    engine.gate.set()
    for future in (running, waiting):
        error = future.exception(10)
        assert isinstance(error, ApiError)
        assert (error.status, error.reason) == (503, "engine_failed")
    assert ended.wait(10)
    assert str(batcher.failure) == "out of memory"
    with pytest.raises(ApiError, match="engine_failed"):
        batcher.reserve(1)


def test_an_engine_that_cannot_be_made_is_a_failure():
    def broken():
        raise ValueError("no such form")

    batcher, ended = Batcher(4, 8, Metrics()), threading.Event()
    batcher.start(broken, on_end=ended.set)
    assert ended.wait(10)
    assert str(batcher.failure) == "no such form"


def test_closing_answers_what_waits(batcher, engine):
    first = hold(batcher, engine)
    rest = [submit(batcher, grey) for grey in range(5)]
    closer = threading.Thread(target=batcher.close)
    closer.start()
    engine.gate.set()
    closer.join(10)
    assert not closer.is_alive()
    assert all(future.done() for future in [first, *rest])
    assert batcher.idle


def test_a_batch_may_wait_to_fill_only_behind_other_work(engine):
    batcher = Batcher(4, 8, Metrics(), wait_s=30.0)
    batcher.start(lambda: engine)
    first = hold(batcher, engine)  # an idle engine does not wait, or this would take half a minute
    second = submit(batcher, 2)
    engine.gate.set()
    assert first.result(10).batch_images == 1
    rest = [submit(batcher, grey) for grey in (3, 4, 5)]
    assert [future.result(10).batch_images for future in [second, *rest]] == [4, 4, 4, 4]
    batcher.close()


class Expecting(Turnaround):
    """Expects so many images after each pass, however long they take."""

    def __init__(self, images: int) -> None:
        super().__init__(0.0)
        self.images = images
        self.came = 0

    def pass_ended(self, images: int, pass_s: float, queued: int, now_s: float) -> None:
        self.came = 0

    def arrived(self, images: int, now_s: float) -> None:
        self.came += images

    def left_s(self, decoding: int, now_s: float) -> float:
        return 30.0 if self.came < self.images or decoding else 0.0


@pytest.fixture
def expecting(engine) -> Iterator[tuple[Batcher, Expecting]]:
    """A batcher, and what its passes wait for: at first nobody."""
    turnaround = Expecting(0)
    batcher = Batcher(4, 8, Metrics(), turnaround=turnaround)
    batcher.start(lambda: engine)
    yield batcher, turnaround
    engine.gate.set()
    batcher.close()


def test_a_pass_waits_for_those_coming_back_and_for_their_decoding(expecting, engine):
    batcher, turnaround = expecting
    first, second = hold(batcher, engine), submit(batcher, 2)
    turnaround.images = 2
    engine.gate.set()
    assert first.result(10).batch_images == 1
    third = submit(batcher, 3)
    batcher.reserve(1)
    assert engine.batches == [1]
    [fourth] = batcher.submit([image(4)], Terms())
    assert [future.result(10).batch_images for future in (second, third, fourth)] == [3, 3, 3]


def test_a_pass_does_not_wait_for_an_image_whose_place_was_given_back(expecting, engine):
    batcher, _ = expecting
    first, second = hold(batcher, engine), submit(batcher, 2)
    batcher.reserve(1)
    engine.gate.set()
    assert first.result(10).batch_images == 1
    batcher.release(1)  # it could not be decoded
    assert second.result(10).batch_images == 1


@given(greys=st.lists(st.integers(0, 255), min_size=1, max_size=12), batch_max=st.integers(1, 5))
def test_every_image_gets_its_own_answer_whatever_the_batches(greys, batch_max, make_engine):
    engine, batcher = make_engine(), Batcher(batch_max, 12, Metrics())
    batcher.start(lambda: engine)
    futures = [submit(batcher, grey) for grey in greys]
    wait(futures, timeout=30)
    batcher.close()
    assert [int(future.result(0).scores.argmax()) for future in futures] == greys
    assert sum(engine.batches) == len(greys)
    assert max(engine.batches) <= batch_max
    assert batcher.idle
