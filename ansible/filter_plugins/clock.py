"""Jinja filters over `latencylab.clock_offsets`, so that playbooks and runs judge clocks by the same formula."""

from typing import Any

from latencylab.clock_offsets import estimate


def clock_offset(samples: list[list[int]]) -> dict[str, Any]:
    """{"offset_ns", "bound_ns"} from the samples that ``timesync.py measure`` printed."""
    return estimate(tuple(sample) for sample in samples).as_dict()  # type: ignore[misc]


class FilterModule:
    """What Ansible looks for in a filter plugin."""

    def filters(self) -> dict[str, Any]:
        return {"clock_offset": clock_offset}
