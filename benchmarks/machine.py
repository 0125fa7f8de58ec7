"""What the machine can do and what a process takes of it: the copy bandwidth, memory, and time since its start."""

import os
import statistics
import time
from pathlib import Path

import torch

from benchmarks.stopwatch import seconds_of

_COPIED_BYTES = 1 << 28


def copy_bandwidth(device: torch.device, repetitions: int = 9) -> float:
    """Bytes a second, read and written both counted, of a large copy by all cores or on the GPU: the median."""
    source = torch.ones(_COPIED_BYTES, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    seconds = [seconds_of(lambda: target.copy_(source), device) for _ in range(repetitions + 1)]
    return 2 * _COPIED_BYTES / statistics.median(seconds[1:])


def seconds_since_start() -> float | None:
    """How long this process has been running, what it imported included; Linux only."""
    try:
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    except OSError:
        return None
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")


def memory_of_group(group: int) -> int | None:
    """Bytes of main memory that the processes of a process group hold, shared pages divided among them; Linux only."""
    total = 0
    try:
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit() and _group_of(folder) == group:
                total += _proportional_set_size(folder)
    except OSError:
        return None
    return total or None


def _group_of(folder: Path) -> int | None:
    try:
        # The command's name stands in parentheses and may hold anything; the fields behind it are numbers.
        return int((folder / "stat").read_text().rpartition(")")[2].split()[2])
    except (OSError, IndexError, ValueError):
        return None  # it has just ended


def _proportional_set_size(folder: Path) -> int:
    try:
        lines = (folder / "smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
