"""How many cores this process may use; in a container that is often fewer than the machine has.

More threads than that do not share the time that there is: in each step all of them wait for the one that was stopped.
"""

import os
from pathlib import Path

_CONTROL_GROUPS = Path("/sys/fs/cgroup")


def available_cores() -> int:
    """Cores that the process is allowed on, and no more than its container's share of time fills."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(allowed, int(_share_of_time(allowed))))


def _share_of_time(without_limit: float) -> float:
    """Cores' worth of time that a control group grants, of version 2 or 1 (Linux)."""
    try:
        quota, period = (_CONTROL_GROUPS / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota, period = (
                (_CONTROL_GROUPS / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period")
            )
        except OSError:
            return without_limit
    # "max" and -1 mean that there is no limit.
    return int(quota) / int(period) if quota.strip().isdigit() else without_limit
