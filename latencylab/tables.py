"""The tables that a sweep ends with: one row per point, from its runs."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import pandas as pd

from latencylab import statistics
from latencylab.percentiles import AcrossRepetitions, label
from latencylab.runs import Run
from latencylab.summary import QUANTILES

_EXACT: Final = 1e-3
"""Most that a form of the network may differ from plain Keras in a softmax value and still count as the same."""


@dataclass(frozen=True)
class Reported:
    """A percentile of a point: over its repetitions if there are several, else of its one run; ns."""

    value_ns: float | None
    low_ns: float | None
    high_ns: float | None
    reason: str | None

    def text(self) -> str:
        """In ms with its interval, or a dash: the reason is told beside the table."""
        if self.value_ns is None:
            return "–"
        value = _ms(self.value_ns)
        if self.low_ns is None or self.high_ns is None:
            return value
        return f"{value} [{_ms(self.low_ns)}, {_ms(self.high_ns)}]"


def _ms(value_ns: float) -> str:
    return f"{value_ns / 1e6:.0f}" if value_ns >= 1e8 else f"{value_ns / 1e6:.1f}"


def by_point(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """Runs of each point, points in their order in the sweep."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.point, []).append(run)
    return groups


def reported(runs: list[Run], q: float, path: str = "end_to_end_ns") -> Reported:
    """Quantile `q` of a point's latency on `path` (``end_to_end_ns`` or ``storage_ns``)."""
    found = [next(p for p in run.info["summary"][path] if p["q"] == q) for run in runs]
    if len(found) == 1:
        only = found[0]
        return Reported(only["value"], only["low"], only["high"], only["reason"])
    over: AcrossRepetitions = statistics.across_repetitions([p["value"] for p in found])
    reasons = [p["reason"] for p in found if p["value"] is None]
    return Reported(over.value, over.low, over.high, reasons[0] if reasons else over.reason)


def point_table(runs: Iterable[Run]) -> pd.DataFrame:
    """One row per point: runs, valid runs, offered and achieved rate (frames/s), counts over all its runs, and the
    end-to-end percentiles in ms with their intervals, as text."""
    rows = []
    for point, group in by_point(runs).items():
        counts = pd.DataFrame([run.info["counts"] for run in group]).sum()
        row: dict[str, Any] = {
            "point": point,
            "runs": len(group),
            "valid": sum(run.valid for run in group),
            "offered/s": _mean_rate(group, "offered_hz"),
            "achieved/s": _mean_rate(group, "achieved_hz"),
            "scheduled": counts["scheduled"],
            "sent": counts["sent"],
            "stored": counts["stored"],
            "labelled": counts["labelled"],
            "lost": counts["lost_storage"] + counts["lost_inference"],
        }
        row |= {f"{label(q)} ms": reported(group, q).text() for q in QUANTILES}
        rows.append(row)
    return pd.DataFrame(rows)


def _mean_rate(runs: list[Run], name: str) -> str:
    rates = [run.info["summary"][name] for run in runs if run.info["summary"][name] is not None]
    return f"{sum(rates) / len(rates):.2f}" if rates else "–"


def notes(runs: Iterable[Run]) -> list[str]:
    """What must be read with the table: caveats, invalid runs with their reasons, and why a number is missing."""
    listed = list(runs)
    lines = [f"Caveat: {text}." for text in dict.fromkeys(c for run in listed for c in caveats(run))]
    lines += [
        f"Invalid: {run.info['run_id']}: {'; '.join(run.info['invalid_reasons'])}." for run in listed if not run.valid
    ]
    for q in QUANTILES:
        found = {point: reported(group, q) for point, group in by_point(listed).items()}
        reasons = [f"{point} ({answer.reason})" for point, answer in found.items() if answer.value_ns is None]
        if reasons:
            lines.append(f"{label(q)} is not given for {', '.join(reasons)}.")
    return lines


def verdict(run: Run) -> str:
    """What one run says: its counts, its percentiles, whether it is valid, and what must be read with it."""
    return "\n".join(
        [
            json.dumps(run.info["counts"]),
            point_table([run]).to_string(index=False),
            "valid" if run.valid else "INVALID: " + "; ".join(run.info["invalid_reasons"]),
            *notes([run]),
        ]
    )


def what_ran(runs: Iterable[Run]) -> dict[str, set[str]]:
    """The parts of the pipeline that decide how fast it is, by name; several where the runs had several."""
    listed = list(runs)
    running = [run.info["running"] for run in listed]
    return {
        "weights": {part["server"]["weights"] for part in running},
        "engine": {part["server"]["engine"]["form"] for part in running},
        "database": {part["database"]["name"] for part in running},
        "backend": {run.experiment.backend for run in listed},
    }


def caveats(run: Run) -> list[str]:
    """What limits the meaning of a run's numbers."""
    server = run.info["running"]["server"]
    weights, rounding = server.get("weights_caveat"), _rounding(server["engine"])
    return [*([weights.rstrip(".")] if weights else []), *([rounding] if rounding else []), *run.info["caveats"]]


def _rounding(engine: dict[str, Any]) -> str | None:
    """How far a form of the network that rounds is from plain Keras."""
    agreement = engine.get("agreement")
    if agreement is None or agreement["softmax_difference"] <= _EXACT:
        return None
    difference, frames, same = (agreement[key] for key in ("softmax_difference", "frames", "same_top1"))
    return (
        f"{engine['form']} rounds: scores up to {difference:.2f} from plain Keras' on {frames} test frames, "
        f"the same top-1 class on {same}"
    )
