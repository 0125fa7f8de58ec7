"""Commands in processes of their own, and what any of them may say and leave behind, whatever happens to it."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.faults.campaign import Fault

ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1"}
PROGRAM = (sys.executable, "-m", "mixmo_fast")


def run_command(arguments: Sequence[object], **options: object) -> subprocess.CompletedProcess[str]:
    """Runs `mixmo-fast` with arguments to its end, and takes exception to a traceback."""
    command = [*PROGRAM, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", env=ONE_THREAD, **options)  # type: ignore[call-overload]
    check_words(done.returncode, done.stderr)
    return done


def check_words(code: int, complaint: str) -> None:
    """Takes exception to a traceback, and to a refusal that is not a line at the end."""
    if "Traceback (most recent call last)" in complaint:
        raise Fault(f"a traceback: {complaint.strip().splitlines()[-1][:100]}", complaint[-900:])
    if code == 2 and not complaint.strip().splitlines()[-1:][0].startswith("mixmo-fast: "):
        raise Fault("exit code 2 without a line", complaint[-900:])


def leftovers(folder: Path) -> list[str]:
    """What temporary files and folders there are, by their paths from there."""
    found = folder.rglob(".*")
    return sorted(str(path.relative_to(folder)) for path in found if path.suffix != ".lock" and path.exists())
