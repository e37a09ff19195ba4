"""The statistics of a run, by one name: percentiles with intervals, warm-up, stationarity and saturation."""

from latencylab.percentiles import (
    AcrossRepetitions,
    Percentile,
    across_repetitions,
    percentile,
    percentiles,
)
from latencylab.quantiles import label, minimum_samples
from latencylab.saturation import Backlog, Window, backlog_series, backlog_slope
from latencylab.steady_state import Halves, WarmUp, mser, stationary_halves, warmup_cut

__all__ = [
    "AcrossRepetitions",
    "Backlog",
    "Halves",
    "Percentile",
    "WarmUp",
    "Window",
    "across_repetitions",
    "backlog_series",
    "backlog_slope",
    "label",
    "minimum_samples",
    "mser",
    "percentile",
    "percentiles",
    "stationary_halves",
    "warmup_cut",
]
