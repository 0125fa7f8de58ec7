"""The process that trains one run for the local engine: `python -m mixmo_fast.reproduce.child`, never typed by hand.

It ends with its parent, however that ends, so that no run goes on behind the back of whoever stopped the reproduction.
"""

import argparse
import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def arguments_of(config: Path, run_folder: Path, data: Path, device: str, pipeline: str) -> list[str]:
    """The command line of a child of this process."""
    return [
        *(sys.executable, "-m", "mixmo_fast.reproduce.child", str(config), str(run_folder)),
        *("--data", str(data), "--device", device, "--pipeline", pipeline, "--parent", str(os.getpid())),
    ]


def end_with(parent: int) -> None:
    """Arranges that this process is killed when its parent is gone; at once, if it is gone already.

    On Linux the kernel does it. Elsewhere a thread looks every second.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    else:
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    if os.getppid() != parent:  # it went before the kernel was told
        os._exit(1)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def main(arguments: Sequence[str] | None = None) -> int:
    """Trains the run; the exit code is an `Ended`, or 1 for a crash whose traceback is in the log."""
    parser = argparse.ArgumentParser(prog="mixmo_fast.reproduce.child", description=__doc__.split("\n")[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("run_folder", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--device", required=True)
    parser.add_argument("--pipeline", required=True)
    parser.add_argument("--parent", type=int, required=True)
    options = parser.parse_args(arguments)
    end_with(options.parent)
    # Only now, because it takes seconds, and a parent may go in them, too.
    from mixmo_fast.reproduce.jobs import Launch, train_one

    launch = Launch(options.run_folder.parents[2], options.data, options.device, 1, options.pipeline)
    from mixmo_fast.errors import Stopped
    from mixmo_fast.training.stopping import EXIT_CODE

    try:
        ended, line = train_one(options.config, launch, options.run_folder)
    except Stopped as stopped:  # whoever starts it again goes on from there
        print(f"stopped {stopped}", file=sys.stderr)
        return EXIT_CODE
    if line:
        print(line, file=sys.stderr)
    return 1 if ended is None else int(ended)


if __name__ == "__main__":
    sys.exit(main())
