"""When a producer may take a processor from others: while frames are due, and never after."""

import contextlib
import os


def take_priority() -> str:
    """Put this thread, and those it starts, before all ordinary processes; return the scheduling policy that it got.

    A camera does not compete with the servers for their processor, so neither should a simulated one. Only Linux has
    this, and only for root or with CAP_SYS_NICE (sched(7)); elsewhere the policy stays as it is.
    """
    if not hasattr(os, "sched_setscheduler"):
        return "default"
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(os.sched_get_priority_min(os.SCHED_RR)))
    return {os.SCHED_RR: "SCHED_RR", os.SCHED_OTHER: "SCHED_OTHER"}.get(os.sched_getscheduler(0), "other")


def give_way() -> None:
    """Put this thread behind all others. What a producer does after its last frame (its report, its end) would delay
    the last frames of the run, which are still on their way, and show as a tail that the pipeline does not have."""
    if hasattr(os, "sched_setscheduler"):
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    os.nice(19)
