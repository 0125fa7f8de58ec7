"""How much memory runs take on a GPU, as they say themselves, and how much of it is free.

Units: bytes.
"""

import contextlib
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from mixmo_fast.errors import MixmoError
from mixmo_fast.runfolder.history import read_progress

_ASK = "import torch; print(torch.cuda.mem_get_info()[0])"
_PATIENCE = 120.0  # seconds; torch alone takes some to import


def peak_of(folder: Path) -> int | None:
    """The most that a run's training took so far, as its epochs say; None where none of them says it."""
    with contextlib.suppress(MixmoError):
        _, history = read_progress(folder)
        peaks = [epoch.gpu_peak_reserved_bytes for epoch in history if epoch.gpu_peak_reserved_bytes is not None]
        return max(peaks, default=None)
    return None


def free_on_gpu(environment: Mapping[str, str]) -> tuple[int | None, str]:
    """What is free on the first GPU that a child with this environment sees.

    A process of its own asks, since a CUDA context would stay with this one, and take memory itself.

    Returns:
        The memory, or None where it cannot be known; and the last line of the complaint then.
    """
    command = [sys.executable, "-c", _ASK]
    try:
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_PATIENCE
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return None, " ".join(str(error).split())
    if done.returncode == 0 and done.stdout.strip().isdigit():
        return int(done.stdout), ""
    return None, (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
