import pytest

from latencylab import style


@pytest.mark.parametrize(
    ("least_ms", "most_ms", "ticks"),
    [(8, 300, ["10", "20", "50", "100", "200"]), (60, 210, ["70", "100", "150", "200"]), (96, 104, ["96", "98"])],
)
def test_a_latency_axis_is_labelled_however_short_it_is(least_ms, most_ms, ticks):
    figure, axes = style.new_figure()
    axes.set_yscale("log")
    style.latency_axis(axes.yaxis)
    axes.set_ylim(least_ms, most_ms)
    figure.draw_without_rendering()
    shown = [tick.label1.get_text() for tick in axes.yaxis.get_major_ticks() if least_ms <= tick.get_loc() <= most_ms]
    assert shown[: len(ticks)] == ticks
    assert len(shown) >= 3
