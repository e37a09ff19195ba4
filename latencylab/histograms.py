"""The consumers' latency histograms of a run: merged over its processes, held against their CSVs, summarised."""

from pathlib import Path
from typing import Any, Final

from latencylab.quantiles import label
from latencylab.runs import RunError
from latencylab.summary import QUANTILES
from services.contract.histogram import SUFFIX, HistogramError, LatencyHistogram, merge_files

GROUPS: Final = ("inference-consumer", "db-consumer")


def merged(folder: Path, group: str) -> LatencyHistogram:
    """The end-to-end latencies that all consumer processes of `group` counted in the run in `folder`: the warm-up with
    them, a frame that was handled twice twice, and those of a killed process up to its last write.

    Empty when there is no histogram, as in runs recorded before there were any. Raises `RunError` naming a file that
    is damaged.
    """
    try:
        return merge_files(sorted((folder / "consumers").glob(f"{group}-*{SUFFIX}")))
    except HistogramError as error:
        raise RunError(str(error)) from None


def disagreements(folder: Path, reports: list[dict[str, Any]]) -> list[str]:
    """Consumers whose histogram counts other than the rows of their CSV; those without either are not asked."""
    found = []
    for report in reports:
        if report.get("histogram") is None or report["csv"] is None:
            continue
        try:
            counted = len(merge_files([folder / "consumers" / report["histogram"]]))
        except (OSError, HistogramError) as error:
            found.append(f"the histogram of {report['consumer']} can't be read: {error}")
            continue
        if counted != report["rows"]:
            found.append(f"{report['consumer']} counted {counted} latencies and wrote {report['rows']} rows of CSV")
    return found


def summarise(folder: Path) -> dict[str, Any]:
    """For run.json: of each group with a histogram, how many latencies it counted, in range and out of it, and their
    percentiles in ns; or the reason why there are none."""
    found: dict[str, Any] = {}
    for group in GROUPS:
        try:
            histogram = merged(folder, group)
        except RunError as error:
            found[group] = {"reason": str(error)}
            continue
        if len(histogram):
            found[group] = {
                "count": len(histogram),
                "negative": histogram.negative,
                "too_long": histogram.too_long,
                "percentiles_ns": {label(q): histogram.percentile_ns(q) for q in QUANTILES},
            }
    return found
