"""The most memory that training took at a time: of a GPU as torch counts it, of a CPU what the process held.

And how it is given back.
"""

import gc
import re
import resource
import sys
from collections.abc import Iterable
from pathlib import Path

import torch

from mixmo_fast.runfolder.records import PeakMemory


def peak_memory(device: torch.device) -> PeakMemory:
    """The peaks since the process began; of the GPU's memory on CUDA, else of the process's own."""
    if device.type == "cuda":
        return PeakMemory(
            gpu_peak_allocated_bytes=torch.cuda.max_memory_allocated(device),
            gpu_peak_reserved_bytes=torch.cuda.max_memory_reserved(device),
        )
    return PeakMemory(process_peak_resident_bytes=_peak_resident_bytes())


def release(device: torch.device) -> None:
    """Gives memory that nobody uses back to the device: steps refer to themselves, so that they stay until it asks."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def highest(peaks: Iterable[PeakMemory]) -> PeakMemory:
    """The highest of each kind; what nobody knows stays unknown."""
    most: dict[str, int] = {}
    for peak in peaks:
        for name in PeakMemory.model_fields:
            if (value := getattr(peak, name)) is not None:
                most[name] = max(value, most.get(name, 0))
    return PeakMemory.model_validate(most)


def _peak_resident_bytes() -> int:
    # On Linux not `ru_maxrss`: in a process that was started by a larger one, that is the other's.
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
    except OSError:
        status = ""
    if found := re.search(r"^VmHWM:\s*(\d+) kB$", status, flags=re.MULTILINE):
        return 1024 * int(found[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
