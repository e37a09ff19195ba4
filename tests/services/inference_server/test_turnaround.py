import pytest

from services.inference_server.turnaround import Turnaround

PASS_S = 0.1


def follow(
    turnaround: Turnaround, passes: int, answered: int, back: int, after_s: float, start_s: float = 0.0, queued: int = 1
) -> float:
    """So many passes, each followed after `after_s` by `back` of the clients `answered`; the time of one more pass."""
    now_s = start_s
    for _ in range(passes):
        now_s += PASS_S
        turnaround.pass_ended(answered, PASS_S, queued, now_s)
        for _ in range(back):
            turnaround.arrived(1, now_s + after_s)
        now_s += after_s
    return now_s + PASS_S


def test_nobody_is_waited_for_before_anybody_came_back():
    turnaround = Turnaround(1.0)
    turnaround.pass_ended(8, PASS_S, 1, 0.0)
    assert turnaround.left_s(0, 0.0) == 0


def test_clients_of_a_closed_loop_are_waited_for_until_all_are_here_and_decoded():
    turnaround = Turnaround(1.0)
    now_s = follow(turnaround, passes=10, answered=4, back=4, after_s=0.01)
    turnaround.pass_ended(4, PASS_S, 1, now_s)
    assert turnaround.left_s(0, now_s) == pytest.approx(PASS_S / 4)
    turnaround.arrived(3, now_s + 0.005)
    assert turnaround.left_s(3, now_s + 0.005) == pytest.approx(PASS_S / 4 - 0.005)
    turnaround.arrived(1, now_s + 0.010)
    assert turnaround.left_s(1, now_s + 0.010) > 0
    assert turnaround.left_s(0, now_s + 0.010) == 0


@pytest.mark.parametrize(("most_s", "waits_s"), [(1.0, PASS_S / 4), (0.01, 0.01), (0.0, 0.0)])
def test_the_wait_is_a_quarter_of_a_pass_and_at_most_what_is_set(most_s, waits_s):
    turnaround = Turnaround(most_s)
    now_s = follow(turnaround, passes=10, answered=4, back=4, after_s=0.005)
    turnaround.pass_ended(4, PASS_S, 1, now_s)
    assert turnaround.left_s(0, now_s) == pytest.approx(waits_s)
    assert turnaround.left_s(0, now_s + waits_s) == 0


@pytest.mark.parametrize(
    ("back", "after_s"), [pytest.param(4, PASS_S / 2, id="later than a pass waits"), pytest.param(1, 0.01, id="few")]
)
def test_nobody_waits_where_clients_do_not_come_back_at_once(back, after_s):
    turnaround = Turnaround(1.0)
    now_s = follow(turnaround, passes=10, answered=4, back=back, after_s=after_s)
    turnaround.pass_ended(4, PASS_S, 1, now_s)
    assert turnaround.left_s(0, now_s) == 0


def test_clients_that_leave_are_soon_no_longer_waited_for():
    turnaround = Turnaround(1.0)
    now_s = follow(turnaround, passes=20, answered=4, back=4, after_s=0.01)
    now_s = follow(turnaround, passes=5, answered=4, back=0, after_s=0.0, start_s=now_s)
    turnaround.pass_ended(4, PASS_S, 1, now_s)
    assert turnaround.left_s(0, now_s) == 0


def test_the_end_of_a_load_says_nothing_of_the_next():
    turnaround = Turnaround(1.0)
    now_s = follow(turnaround, passes=20, answered=4, back=4, after_s=0.01)
    for _ in range(5):  # loads of one pass each, after which the engine is idle
        now_s = follow(turnaround, passes=1, answered=4, back=0, after_s=10.0, start_s=now_s, queued=0)
    turnaround.pass_ended(4, PASS_S, 1, now_s)
    turnaround.arrived(3, now_s)
    assert turnaround.left_s(0, now_s) > 0


def test_nobody_is_left_behind_for_a_rounding():
    turnaround = Turnaround(1.0)
    now_s = follow(turnaround, passes=10, answered=7, back=7, after_s=0.01)  # the share is 0.89
    turnaround.pass_ended(7, PASS_S, 1, now_s)
    turnaround.arrived(6, now_s)
    assert turnaround.left_s(0, now_s) > 0
